"""The only rooms that know paho: `connection` keeps a connection alive, `gateway` says what travels on which."""
