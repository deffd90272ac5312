"""A page in the browser: speak and find pictures, show a picture and hear captions."""
