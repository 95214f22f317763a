/** The form that asks for the server's key. */

/** A promise of the key a person types; the form is shown until then. */
export function askForKey() {
  const form = document.getElementById("key-form");
  const field = document.getElementById("key");
  form.hidden = false;
  field.value = "";
  field.focus();
  return new Promise((resolve) => {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      form.hidden = true;
      resolve(field.value);
    }, { once: true });
  });
}
