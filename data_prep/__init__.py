"""Dataset preparation: from whatever people have to a manifest and a region."""
