"""``dfad-fast inspect``: how alike are the teacher and the student of a run? One file per measure."""
