"""English texts that remember how they were composed, so that an application can show them in its language.

A module that makes messages writes ``_("the scan has {count} frames").format(count=n)``. The result is the English
text, an ordinary string, which also has the literal, the values and the translation context. From these,
:meth:`Wording.translated` composes the text of another language. Literals and contexts are those of 3D Slicer's
translation tools: one literal per ``_("...")``, and ``folder.file``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from string import Formatter
from typing import Any

Translate = Callable[[str, str], str]
"""Context and literal -> literal in another language, with the same fields in braces."""

_KIND, _LONGEST_FORMAT = "wording", 6


class Wording(str):
    """An English text with its origin. Texts made from it by methods of ``str`` other than ``format`` are plain.

    Attributes:
        context: translation context; ``""`` for a template without words.
        template: the literal, with fields as for ``str.format``.
        values: value of each field: a number, a text, or a list of texts, which is shown with commas (wordings among
            them are translated too); ``None`` for a literal without fields.
        form: ``"sentence"`` (initial capital, final full stop), ``"phrase"`` (neither), or ``""`` (as it is).
    """

    context: str
    template: str
    values: dict[str, Any] | None
    form: str

    @classmethod
    def of(cls, context: str, template: str, values: Mapping[str, Any] | None = None, form: str = "") -> Wording:
        """Compose the English text; without values, the template is the text."""
        kept = None if values is None else {key: _kept(value) for key, value in values.items()}
        text = template if kept is None else template.format(**{key: _plain(value) for key, value in kept.items()})
        made = cls(_FORMS[form](text))
        made.context, made.template, made.values, made.form = context, template, kept, form
        return made

    def __str__(self) -> str:
        return self  # so that str(error) keeps it

    def __add__(self, other: str) -> Wording:
        return Wording.of("", "{a}{b}", {"a": self, "b": other})

    def __radd__(self, other: str) -> Wording:
        return Wording.of("", "{a}{b}", {"a": other, "b": self})

    def format(self, **values: object) -> Wording:  # type: ignore[override]
        """Fill in the fields of a literal."""
        return Wording.of(self.context, self.template, values)

    def in_form(self, form: str) -> Wording:
        """Return the text as a sentence or phrase, see :attr:`form`."""
        made = Wording(_FORMS[form](str.__str__(self)))
        made.context, made.template, made.values, made.form = self.context, self.template, self.values, form
        return made

    def translated(self, translate: Translate) -> str:
        """Return the text in another language; in English, where its translation has other fields."""
        literal = translate(self.context, self.template) if self.context else self.template
        if self.values is None:
            return _FORMS[self.form](literal)
        values = {key: _shown(value, translate) for key, value in self.values.items()}
        try:
            return _FORMS[self.form](literal.format(**values))
        except (KeyError, IndexError, ValueError, AttributeError):
            return _FORMS[self.form](self.template.format(**values))


def _(literal: str) -> Wording:
    """Mark a literal for translation; its context is the module of the caller."""
    module = sys._getframe(1).f_globals["__name__"]
    return Wording.of(".".join(module.split(".")[-2:]), literal)


def as_sentence(text: str) -> str:
    """Return the text with an initial capital and a final full stop."""
    return text.in_form("sentence") if isinstance(text, Wording) else _sentence(text)


def as_phrase(text: str) -> str:
    """Return the text without initial capital and final full stop."""
    return text.in_form("phrase") if isinstance(text, Wording) else _phrase(text)


def listed(texts: Sequence[str]) -> str:
    """Return the enumeration of texts, such as ``"a, b and c"``; at least one."""
    *first, last = texts
    return _("{first} and {last}").format(first=first, last=last) if first else last


def joined(separator: str, texts: Iterable[str]) -> str:
    """Join texts as ``separator.join`` does; the result can be translated."""
    fields = {f"t{k}": text for k, text in enumerate(texts)}
    if len(fields) < 2:
        return fields.get("t0", "")
    return Wording.of("", separator.join(f"{{{key}}}" for key in fields), fields)


def with_wordings(content: Any) -> Any:
    """Replace each wording in JSON-ready content by a dictionary for :func:`read_wordings`."""
    if isinstance(content, Wording):
        return {_KIND: [content.context, content.template, with_wordings(content.values), content.form]}
    if isinstance(content, dict):
        return {key: with_wordings(value) for key, value in content.items()}
    return [with_wordings(value) for value in content] if isinstance(content, list | tuple) else content


def read_wordings(content: Any) -> Any:
    """Restore the wordings in content of :func:`with_wordings`.

    Raises:
        KeyError, TypeError, ValueError: a wording is damaged, or has fields that this module does not write.
    """
    if isinstance(content, list):
        return [read_wordings(value) for value in content]
    if not isinstance(content, dict):
        return content
    if content.keys() != {_KIND}:
        return {key: read_wordings(value) for key, value in content.items()}
    context, template, values, form = content[_KIND]
    for _text, name, spec, _conversion in Formatter().parse(template) if values is not None else ():
        if name is not None and not (name.isidentifier() and len(spec or "") <= _LONGEST_FORMAT):
            raise ValueError(f"field {name!r} of a stored text is refused")
    return Wording.of(context, template, read_wordings(values), form)


def _sentence(text: str) -> str:
    sentence = text[:1].upper() + text[1:]
    return sentence if sentence.endswith((".", "!", "?")) else f"{sentence}."


def _phrase(text: str) -> str:
    return text[:1].lower() + text[1:].removesuffix(".")


_FORMS: dict[str, Callable[[str], str]] = {"": lambda text: text, "sentence": _sentence, "phrase": _phrase}


def _kept(value: Any) -> Any:
    """Return a value as it is stored: a number, a text, or a list of texts."""
    if hasattr(value, "item") and not isinstance(value, str):
        return value.item()  # a number of NumPy
    if isinstance(value, list | tuple) and all(isinstance(v, str) for v in value):
        return list(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _plain(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _shown(value: Any, translate: Translate) -> Any:
    if isinstance(value, list):
        return ", ".join(str(_shown(v, translate)) for v in value)
    return value.translated(translate) if isinstance(value, Wording) else value
