"""Read and write nodes for ``slicer.util.loadVolume``, ``saveNode`` and similar functions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class _Kind:
    """A file type: its extension, node class, storage node class, and name in the application."""

    extension: str
    node_class: str
    storage_class: str
    file_type: str


_KINDS = (
    _Kind(".seg.nrrd", "vtkMRMLSegmentationNode", "vtkMRMLSegmentationStorageNode", "SegmentationFile"),
    _Kind(".seg.vtm", "vtkMRMLSegmentationNode", "vtkMRMLSegmentationStorageNode", "SegmentationFile"),
    _Kind(".seq.nrrd", "vtkMRMLSequenceNode", "vtkMRMLVolumeSequenceStorageNode", "SequenceFile"),
    _Kind(".nii.gz", "vtkMRMLScalarVolumeNode", "vtkMRMLVolumeArchetypeStorageNode", "VolumeFile"),
    _Kind(".nii", "vtkMRMLScalarVolumeNode", "vtkMRMLVolumeArchetypeStorageNode", "VolumeFile"),
    _Kind(".nrrd", "vtkMRMLScalarVolumeNode", "vtkMRMLVolumeArchetypeStorageNode", "VolumeFile"),
    _Kind(".mha", "vtkMRMLScalarVolumeNode", "vtkMRMLVolumeArchetypeStorageNode", "VolumeFile"),
    _Kind(".stl", "vtkMRMLModelNode", "vtkMRMLModelStorageNode", "ModelFile"),
    _Kind(".obj", "vtkMRMLModelNode", "vtkMRMLModelStorageNode", "ModelFile"),
    _Kind(".ply", "vtkMRMLModelNode", "vtkMRMLModelStorageNode", "ModelFile"),
    _Kind(".vtk", "vtkMRMLModelNode", "vtkMRMLModelStorageNode", "ModelFile"),
    _Kind(".csv", "vtkMRMLTableNode", "vtkMRMLTableStorageNode", "TableFile"),
    _Kind(".tsv", "vtkMRMLTableNode", "vtkMRMLTableStorageNode", "TableFile"),
    _Kind(".h5", "vtkMRMLTransformNode", "vtkMRMLTransformStorageNode", "TransformFile"),
    _Kind(".mrk.json", "vtkMRMLMarkupsFiducialNode", "vtkMRMLMarkupsJsonStorageNode", "MarkupsFile"),
    _Kind(".txt", "vtkMRMLTextNode", "vtkMRMLTextStorageNode", "TextFile"),
)

# Bits of vtkSlicerVolumesLogic::AddArchetypeVolume, with the property that sets each and its default.
_VOLUME_OPTIONS = (
    ("labelmap", 1, False),
    ("center", 2, False),
    ("singleFile", 4, False),
    ("autoWindowLevel", 8, True),
    ("discardOrientation", 16, False),
)


class NodeIO:
    """Part of the application's IO manager that ``slicer.util`` calls; method names are the application's."""

    def fileType(self, file_name: str | Path) -> str:
        """Return the application's name of this file type; an unknown extension is treated as a volume."""
        name = str(file_name).lower()
        if name.endswith((".mrml", ".mrb")):
            return "SceneFile"
        return next((kind.file_type for kind in _KINDS if name.endswith(kind.extension)), "VolumeFile")

    def fileWriterFileType(self, node: Any) -> str:
        return next((k.file_type for k in _KINDS if k.node_class == node.GetClassName()), node.GetClassName())

    def loadNodes(self, file_type: str, properties: dict[str, Any], loaded: Any, messages: Any = None) -> bool:
        """Read ``properties["fileName"]`` into the scene; new nodes are added to the collection ``loaded``."""
        path = Path(str(properties["fileName"]))
        if file_type == "SceneFile":
            return self._load_scene(path, bool(properties.get("clear")), messages)
        if not path.exists():
            return False
        node = self._load_volume(path, properties) if file_type == "VolumeFile" else self._load_other(path, file_type)
        if node is None:
            return False
        if properties.get("name"):
            node.SetName(properties["name"])
        loaded.AddItem(node)
        return True

    def saveNodes(self, file_type: str, properties: dict[str, Any], messages: Any) -> bool:
        """Write the scene, or the node with the ID ``properties["nodeID"]``, to ``properties["fileName"]``."""
        import slicer

        path = Path(str(properties["fileName"]))
        if file_type == "SceneFile":
            return self._save_scene(path)
        node = slicer.mrmlScene.GetNodeByID(properties["nodeID"])
        if node is None:
            return False
        if node.GetStorageNode() is None:
            node.AddDefaultStorageNode(str(path))
        storage = node.GetStorageNode()
        storage.SetFileName(str(path))
        if "useCompression" in properties:
            storage.SetUseCompression(int(properties["useCompression"]))
        return bool(storage.WriteData(node))

    @staticmethod
    def _load_scene(path: Path, clear: bool, messages: Any) -> bool:
        import slicer

        if clear:
            slicer.mrmlScene.Clear(0)
        if path.suffix.lower() == ".mrb":
            return bool(slicer.mrmlScene.ReadFromMRB(str(path), False))
        slicer.mrmlScene.SetURL(str(path))
        return bool(slicer.mrmlScene.Import(messages))

    @staticmethod
    def _save_scene(path: Path) -> bool:
        import slicer

        scene = slicer.mrmlScene
        if path.suffix.lower() == ".mrb":
            return bool(scene.WriteToMRB(str(path)))
        if path.suffix.lower() == ".mrml":
            scene.SetURL(str(path))
            scene.SetRootDirectory(str(path.resolve().parent))
            return bool(scene.Commit())
        return bool(scene.SaveSceneToSlicerDataBundleDirectory(str(path)))

    @staticmethod
    def _load_volume(path: Path, properties: dict[str, Any]) -> Any:
        import slicer

        name = properties.get("name") or path.name.split(".")[0]
        options = sum(bit for key, bit, default in _VOLUME_OPTIONS if properties.get(key, default))
        return slicer.modules.volumes.logic().AddArchetypeVolume(str(path), name, options)

    @staticmethod
    def _load_other(path: Path, file_type: str) -> Any:
        import slicer

        fitting = [kind for kind in _KINDS if kind.file_type == file_type]
        if not fitting:
            return None
        kind = next((k for k in fitting if path.name.lower().endswith(k.extension)), fitting[0])
        node = slicer.mrmlScene.AddNewNodeByClass(kind.node_class, path.name.split(".")[0])
        storage = slicer.mrmlScene.AddNewNodeByClass(kind.storage_class)
        storage.SetFileName(str(path))
        if not storage.ReadData(node):
            slicer.mrmlScene.RemoveNode(node)
            slicer.mrmlScene.RemoveNode(storage)
            return None
        node.SetAndObserveStorageNodeID(storage.GetID())
        if hasattr(node, "CreateDefaultDisplayNodes"):
            node.CreateDefaultDisplayNodes()
        return node
