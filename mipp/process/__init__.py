"""What concerns a process as a whole: whoever owns one asks for it, no computation does.

allocator    the memory that it keeps for what comes next
peak_memory  the most that it has held
exit_codes   what it ends with
ranks        the others that train one network with it
"""
