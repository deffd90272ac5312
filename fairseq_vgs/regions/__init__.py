"""Region features: converted from other code, or computed from pictures."""
