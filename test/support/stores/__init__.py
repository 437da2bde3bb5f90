"""Real storage servers, each in a container on an address of this run."""
