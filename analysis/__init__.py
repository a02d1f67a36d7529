"""What compare.py shows: statistics over paired runs, figures, and the terminal tables."""
