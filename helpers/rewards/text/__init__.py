"""What rewards read in a Portuguese text: words and vocabularies, numbers, language, tables."""
