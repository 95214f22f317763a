"""What the reports of both halves share: markup, figures, the look of a page."""
