"""Corpora, tokenizers, packed tokens and batches. Import from the submodules: nothing is loaded here."""
