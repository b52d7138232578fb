"""``run.py compare``: what differs between two files of results beyond noise."""
