"""What runs in a worker. A folder that Python starts by path; the server shares only `faaswire` with it."""
