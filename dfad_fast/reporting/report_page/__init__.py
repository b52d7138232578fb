"""A run as one page for a browser, ``report.html``, which needs no other file and no network connection.

It is made from the run's folder, finished or interrupted. The page lists the parts for which data is missing.
"""
