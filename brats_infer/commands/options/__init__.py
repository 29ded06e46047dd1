"""How the commands take their options."""
