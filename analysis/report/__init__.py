"""What a study says: sections, figures, terminal, page."""
