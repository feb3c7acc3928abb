"""Which settings: the command that searches them, and the spaces it searches."""
