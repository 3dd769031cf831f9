r"""TeX as text: what a paper's files say, before and without pandoc.

tex_tokens.py  comments, verbatim text and commands of TeX
flattening.py  \input, \include and \subfile replaced by what they name
recursion.py   macros that expand to themselves, which pandoc follows for ever
plain_text.py  the fallback, pylatexenc
"""
