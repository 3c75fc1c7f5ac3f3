"""What runs outside the server: a folder that Python starts by path; the server shares only `faaswire` with it."""
