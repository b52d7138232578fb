"""Where the student's images come from, one file per place."""
