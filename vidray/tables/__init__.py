"""Tables, their schemas, and the folders that a job writes."""
