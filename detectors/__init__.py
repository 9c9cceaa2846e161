"""Pure statistics: profiles that merge exactly, references, tests and the findings they lead to.

Nothing here does I/O, reads a clock or uses global random state. Imports: numpy and scipy only.
"""
