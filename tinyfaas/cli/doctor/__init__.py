"""`tinyfaas doctor`: what of this device helps or hinders the server, and how to fix it."""
