"""FiT Class Label: class names or ids to conditioning."""

from __future__ import annotations

from comfy_api.latest import io

from ..comfyui_fitv2.labels import resolve_labels
from . import host


class FiTClassLabel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FiTClassLabel",
            display_name="FiT Class Label",
            category="FiT",
            description="Turns class names or ids into the conditioning of a FiT, with the null "
            "class as the negative.",
            search_aliases=[
                "fitv2",
                "flag",
                "country",
                "class",
                "prompt",
                "fit prompt",
                "class name",
                "imagenet class",
                "label",
                "category",
                "class conditioning",
                "text",
            ],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The FiT with these classes: it knows their names and number.",
                ),
                io.String.Input(
                    "text",
                    default="Finland",
                    tooltip='A class name, synonym or id: "golden retriever", "207". Separate '
                    'several with semicolons, one per image of the batch: "Finland; France". '
                    'Blend with plus signs: "France + Italy", "0.7*France + 0.3*Italy". Where all '
                    "names are numbers, a number is a name.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    "positive",
                    tooltip="The classes. In a larger batch they repeat from the first.",
                ),
                io.Conditioning.Output(
                    "negative", tooltip="The null class, for classifier-free guidance."
                ),
                io.String.Output(
                    "label",
                    tooltip='How the text was understood, such as "207 · golden retriever".',
                ),
                io.Int.Output(
                    "count",
                    tooltip="Number of classes: connect it to a batch size to generate each once.",
                ),
            ],
        )

    @classmethod
    def execute(cls, model: host.ModelPatcher, text: str) -> io.NodeOutput:
        metadata = host.require_fit(model).metadata
        config = metadata.config
        labels = resolve_labels(
            text, metadata.class_names, config.num_classes, metadata.class_synonyms
        )
        return io.NodeOutput(
            host.conditioning(labels, config.num_classes),
            host.conditioning([config.null_class], config.num_classes),
            "; ".join(map(str, labels)),
            len(labels),
        )
