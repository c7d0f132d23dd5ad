"""`devices`: what is in reach, and who belongs to which name."""
