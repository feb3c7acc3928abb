"""Feature families: name -> numbers that describe a video."""
