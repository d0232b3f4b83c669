"""A person's journal: what happened, where it is logged, what is made of it, as a table and as a page (A25, A27).

    words     an event in words
    table     a person's events -> numbered rows, responses tied to their sends
    lanes     rows -> the diagram (SVG)
    page      rows -> the page (HTML)

Pure: the same events give the same rows and the same bytes, in whatever order they come.
"""
