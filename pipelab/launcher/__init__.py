"""Starting things: JupyterLab at the course, the self-check before it, a training, the doctor.

In: what the command line asks for. Out: running processes, all of them ended again, and
reports as data and as text.
"""
