"""Stand-ins for packages that cannot be installed here.

Each has the documented signatures and no other, and checks what the real package checks.
"""
