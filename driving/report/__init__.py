"""The driving report: numbers, words, pictures, one page."""
