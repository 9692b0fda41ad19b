"""What the patch adds to ``Toto``. The codemod takes the methods from here."""

from typing import Any


class EffectiveCompile:
    """The attributes of ``Toto`` that the added method uses, and the method."""

    model: Any

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compiles the backbone, which is what a forecaster calls; takes the arguments of ``torch.compile``.

        Without any, the mode is "reduce-overhead".
        """
        if not kwargs.get("options") and kwargs.get("backend", "inductor") == "inductor":
            kwargs["mode"] = kwargs.get("mode") or "reduce-overhead"
        self.model.compile(*args, **kwargs)
        names = ("mode", "backend", "options")
        chosen = {name: kwargs[name] for name in names if kwargs.get(name) is not None}
        # For a decoder that computes with the backbone's weights, and does not call it.
        self.model._decoding_options = None if kwargs.get("disable") else chosen
