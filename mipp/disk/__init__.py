"""What is on a disk, or at an address, and how it comes there.

whole_files  files and folders of which others see all or nothing, and files that one process holds
faults       a disk that is full, read-only or failing, in words
inside       names that a file gives to other files: none leads out of its folder
manifest     what a stage folder was made from, and what it holds
storage      a work directory: a folder, or the mirror of a URL
workdir      its stage folders: complete or absent, up to date or changed
occupied     one run at a time in it
"""
