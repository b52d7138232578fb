"""Networks in another form with the same answers: folded, in another layout, by Winograd's filtering, synchronized."""
