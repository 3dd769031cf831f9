"""Which files of a repository are of a language: by the end of the name, its dot included, or by the whole name.

The 30 languages are those of the published data sets of source code from GitHub; names are GitHub's own, as its search
takes them. What it is not: a look into the file.
"""

from __future__ import annotations

from dataclasses import dataclass

from kolmo.errors import KolmoError


@dataclass(frozen=True)
class Language:
    """A programming language.

    Attributes:
        name: as GitHub's search writes it.
        extensions: ends of file names in lower case, each with its dot.
        names: whole file names, where the language has any of its own.
    """

    name: str
    extensions: tuple[str, ...]
    names: tuple[str, ...] = ()

    def has(self, path: str) -> bool:
        """Whether a file is of this language, by its path.

        >>> LANGUAGES["python"].has("a/setup.PY"), LANGUAGES["python"].has("a/happy")
        (True, False)
        """
        name = path.rpartition("/")[2]
        return name in self.names or (name.lower().endswith(self.extensions) and name.lower() not in self.extensions)

    @property
    def subset(self) -> str:
        """The name of the corpus's subset: in lower case, with letters, digits and underscores only."""
        spelled = {"c++": "cpp", "c#": "csharp"}.get(self.name.lower(), self.name.lower())
        return spelled.replace(" ", "_")


LANGUAGES = {
    language.name.lower(): language
    for language in (
        Language("Assembly", (".asm",)),
        Language("Batchfile", (".bat", ".cmd")),
        Language("C", (".c", ".h")),
        Language("C#", (".cs",)),
        Language("C++", (".cpp", ".hpp", ".c++", ".h++", ".cc", ".hh", ".cxx", ".hxx")),
        Language("CMake", (".cmake",), ("CMakeLists.txt",)),
        Language("CSS", (".css",)),
        Language("Dockerfile", (".dockerfile",), ("Dockerfile",)),
        Language("Fortran", (".f90", ".f", ".f03", ".f08", ".f77", ".f95", ".for", ".fpp")),
        Language("Go", (".go",)),
        Language("Haskell", (".hs",)),
        Language("HTML", (".html",)),
        Language("Java", (".java",)),
        Language("JavaScript", (".js",)),
        Language("Julia", (".jl",)),
        Language("Lua", (".lua",)),
        Language("Makefile", (".mk",), ("Makefile",)),
        Language("Markdown", (".md", ".markdown")),
        Language("PHP", (".php", ".php3", ".php4", ".php5", ".phps", ".phpt")),
        Language("Perl", (".pl", ".pm", ".pod", ".perl")),
        Language("PowerShell", (".ps1", ".psd1", ".psm1")),
        Language("Python", (".py",)),
        Language("Ruby", (".rb",)),
        Language("Rust", (".rs",)),
        Language("SQL", (".sql",)),
        Language("Scala", (".scala",)),
        Language("Shell", (".sh", ".bash", ".command", ".zsh")),
        Language("TeX", (".tex",)),
        Language("TypeScript", (".ts", ".tsx")),
        Language("Visual Basic .NET", (".vb",)),
    )
}


def language_of(name: str) -> Language:
    """The language of a name, whatever its case.

    Raises:
        KolmoError: it is not in the table.

    Example:
        >>> language_of("PYTHON").extensions
        ('.py',)
    """
    try:
        return LANGUAGES[name.lower()]
    except KeyError:
        known = ", ".join(LANGUAGES)
        raise KolmoError(f"--language {name}: is not in the table of languages; choose one of {known}") from None
