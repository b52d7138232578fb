"""A run as one page for a browser, ``report.html``: no other file and no network is needed to read it.

It is made of what the run's folder holds, finished or interrupted; what is missing is left out, and said.
"""
