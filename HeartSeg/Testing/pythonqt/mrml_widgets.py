"""MRML widgets that panels use, on the real MRML scene, with the application's names, signals and defaults."""

from __future__ import annotations

from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from .ctk_module import ctkCollapsibleButton, ctkSliderWidget, stored
from .qt_module import custom_widget, wrap

Property, Signal = QtCore.Property, QtCore.Signal
SCENE_SIGNAL = "mrmlSceneChanged(vtkMRMLScene*)"


class _Observed:
    """Observers that are removed with their widget."""

    def __init__(self) -> None:
        self._tags: list[tuple[Any, int]] = []

    def add(self, scene: Any, events: tuple[int, ...], act: Any) -> None:
        self._tags += [(scene, scene.AddObserver(event, lambda *_: act())) for event in events]

    def clear(self, *_: Any) -> None:
        for scene, tag in self._tags:
            scene.RemoveObserver(tag)
        self._tags = []


class _WithScene:
    """Base of all MRML widgets: a scene, and a signal when it changes."""

    signals: tuple[str, ...] = (SCENE_SIGNAL,)
    _scene: Any = None

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene
        self.mrmlSceneChanged.emit(scene)  # type: ignore[attr-defined]

    def mrmlScene(self) -> Any:
        return self._scene


@custom_widget
class qMRMLWidget(_WithScene, wrap(QtWidgets.QWidget)):  # type: ignore[misc]
    mrmlSceneChanged = Signal(object)


@custom_widget
class qSlicerScriptedLoadableModuleWidget(qMRMLWidget):
    """Parent of a scripted module's panel; ``reload`` creates the panel again, as in the application."""

    _entered = False
    _reload: Any = None

    @property
    def isEntered(self) -> bool:
        return self._entered

    def reload(self) -> None:
        self._reload()


@custom_widget
class qSlicerWidget(_WithScene, wrap(QtWidgets.QWidget)):  # type: ignore[misc]
    mrmlSceneChanged = Signal(object)


@custom_widget
class qMRMLCollapsibleButton(_WithScene, ctkCollapsibleButton):
    mrmlSceneChanged = Signal(object)


@custom_widget
class qMRMLSliderWidget(_WithScene, ctkSliderWidget):
    mrmlSceneChanged = Signal(object)
    quantity = stored(str, "")


@custom_widget
class qMRMLNodeComboBox(_WithScene, wrap(QtWidgets.QWidget)):  # type: ignore[misc]
    """Lists the nodes of some classes in the scene and keeps one of them current."""

    mrmlSceneChanged = Signal(object)
    currentNodeChanged = Signal(object)
    currentNodeIDChanged = Signal(str)
    nodeAddedByUser = Signal(object)
    nodeActivated = Signal(object)
    signals = (
        SCENE_SIGNAL,
        "currentNodeChanged(vtkMRMLNode*)",
        "currentNodeChanged(bool)",
        "currentNodeIDChanged(QString)",
        "nodeAddedByUser(vtkMRMLNode*)",
        "nodeActivated(vtkMRMLNode*)",
    )

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._box = QtWidgets.QComboBox()
        self._box.setSizeAdjustPolicy(QtWidgets.QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._box)
        self._ids: list[str | None] = []
        self._current: str | None = None
        self._observed = _Observed()
        self.destroyed.connect(self._observed.clear)
        self._attributes: list[tuple[str, str, str]] = []
        self._box.activated.connect(self._chosen)

    def setMRMLScene(self, scene: Any) -> None:
        self._observed.clear()
        super().setMRMLScene(scene)
        if scene is not None:
            events = (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndCloseEvent, scene.EndImportEvent)
            self._observed.add(scene, events, self.refresh)
        self.refresh()

    def nodes(self) -> list[Any]:
        if self._scene is None:
            return []
        kinds = list(self.nodeTypes)
        exact = self.hideChildNodeTypes or not self.showChildNodeTypes
        found = []
        for i in range(self._scene.GetNumberOfNodes()):
            node = self._scene.GetNthNode(i)
            if node.GetHideFromEditors() and not self.showHidden:
                continue
            if not any(node.GetClassName() == kind if exact else node.IsA(kind) for kind in kinds):
                continue
            wanted = [(n, v) for kind, n, v in self._attributes if node.IsA(kind)]
            if all(
                node.GetAttribute(name) == value or (not value and node.GetAttribute(name)) for name, value in wanted
            ):
                found.append(node)
        return found

    def refresh(self) -> None:
        nodes = self.nodes()
        self._box.blockSignals(True)
        self._box.clear()
        self._ids = []
        if self.noneEnabled:
            self._box.addItem(self.noneDisplay)
            self._ids.append(None)
        for node in nodes:
            self._box.addItem(node.GetName() or "")
            self._ids.append(node.GetID())
        keep = self._current if self._current in self._ids else (self._ids[0] if self._ids else None)
        self._box.setCurrentIndex(self._ids.index(keep) if keep in self._ids else -1)
        self._box.blockSignals(False)
        if keep != self._current:
            self._current = keep
            self._tell()

    def _tell(self) -> None:
        self.currentNodeChanged.emit(self.currentNode())
        self.currentNodeIDChanged.emit(self._current or "")

    def _chosen(self, index: int) -> None:
        self.setCurrentNodeID(self._ids[index] or "")
        self.nodeActivated.emit(self.currentNode())

    def setCurrentNodeID(self, node_id: str | None) -> None:
        wanted = node_id or None
        if wanted not in self._ids and wanted is not None:
            return
        changed, self._current = wanted != self._current, wanted
        self._box.setCurrentIndex(self._ids.index(wanted) if wanted in self._ids else -1)
        if changed:
            self._tell()

    def setCurrentNode(self, node: Any) -> None:
        self.setCurrentNodeID(node.GetID() if node is not None else None)

    def currentNode(self) -> Any:
        return self._scene.GetNodeByID(self._current) if self._current and self._scene is not None else None

    def nodeCount(self) -> int:
        return len([i for i in self._ids if i])

    def addAttribute(self, node_type: str, name: str, value: str = "") -> None:
        self._attributes.append((node_type, name, value))
        self.refresh()

    def addNode(self, class_name: str = "") -> Any:
        """Create a node, as the entry "Create new …" does."""
        kind = class_name or self.nodeTypes[0]
        node = self._scene.CreateNodeByClass(kind)
        node.UnRegister(None)
        for node_type, name, value in self._attributes:
            if node.IsA(node_type):
                node.SetAttribute(name, value)
        node.SetName(self._scene.GenerateUniqueName(self.baseName or kind.removeprefix("vtkMRML").removesuffix("Node")))
        node = self._scene.AddNode(node)
        if self.selectNodeUponCreation:
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    nodeTypes = stored("QStringList", [])
    noneEnabled = stored(bool, False, lambda self, value: self.refresh())
    noneDisplay = stored(str, "None", lambda self, value: self.refresh())
    showHidden = stored(bool, False, lambda self, value: self.refresh())
    showChildNodeTypes = stored(bool, True)
    hideChildNodeTypes = stored("QStringList", [])
    addEnabled = stored(bool, True)
    removeEnabled = stored(bool, True)
    editEnabled = stored(bool, False)
    renameEnabled = stored(bool, False)
    selectNodeUponCreation = stored(bool, True)
    baseName = stored(str, "")
    currentNodeID = Property(str, lambda self: self._current or "", setCurrentNodeID)


@custom_widget
class qMRMLTableView(_WithScene, wrap(QtWidgets.QTableWidget)):  # type: ignore[misc]
    mrmlSceneChanged = Signal(object)
    _node: Any = None

    def setMRMLTableNode(self, node: Any) -> None:
        self._node = node
        table = node.GetTable() if node is not None else None
        columns, rows = (table.GetNumberOfColumns(), table.GetNumberOfRows()) if table else (0, 0)
        QtWidgets.QTableWidget.setColumnCount(self, columns)
        QtWidgets.QTableWidget.setRowCount(self, rows)
        for c in range(columns):
            self.setHorizontalHeaderItem(c, QtWidgets.QTableWidgetItem(table.GetColumnName(c)))
            for r in range(rows):
                self.setItem(r, c, QtWidgets.QTableWidgetItem(table.GetValue(r, c).ToString()))

    def mrmlTableNode(self) -> Any:
        return self._node


@custom_widget
class qMRMLSegmentsTableView(_WithScene, wrap(QtWidgets.QWidget)):  # type: ignore[misc]
    """One row per segment with visibility, colour, opacity and name, in the application's order."""

    mrmlSceneChanged = Signal(object)
    _node: Any = None

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._table = QtWidgets.QTableWidget(0, 4)
        self._table.setHorizontalHeaderLabels(["Visible", "Colour", "Opacity", "Name"])
        self._table.verticalHeader().setVisible(False)
        self._table.horizontalHeader().setStretchLastSection(True)
        self._table.itemChanged.connect(self._changed)
        row = QtWidgets.QVBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._table)

    def setSegmentationNode(self, node: Any) -> None:
        self._node = node
        display = node.GetDisplayNode() if node is not None else None
        ids = list(node.GetSegmentation().GetSegmentIDs()) if display is not None else []
        self._table.blockSignals(True)
        self._table.setRowCount(len(ids))
        for row, key in enumerate(ids):
            segment = node.GetSegmentation().GetSegment(key)
            shown, colour = QtWidgets.QTableWidgetItem(), QtWidgets.QTableWidgetItem()
            state = (
                QtCore.Qt.CheckState.Checked if display.GetSegmentVisibility(key) else QtCore.Qt.CheckState.Unchecked
            )
            shown.setCheckState(state)
            colour.setBackground(QtGui.QColor(*(round(255 * c) for c in segment.GetColor())))
            opacity = QtWidgets.QTableWidgetItem(f"{display.GetSegmentOpacity3D(key):.2f}")
            for column, item in enumerate((shown, colour, opacity, QtWidgets.QTableWidgetItem(segment.GetName()))):
                self._table.setItem(row, column, item)
        self._table.verticalHeader().setDefaultSectionSize(22)
        for column in range(3):
            self._table.resizeColumnToContents(column)
        self._table.blockSignals(False)

    def segmentationNode(self) -> Any:
        return self._node

    def _changed(self, item: Any) -> None:
        key = list(self._node.GetSegmentation().GetSegmentIDs())[item.row()]
        if item.column() == 0:
            visible = item.checkState() == QtCore.Qt.CheckState.Checked
            self._node.GetDisplayNode().SetSegmentVisibility(key, visible)

    statusColumnVisible = stored(bool, True)
    layerColumnVisible = stored(bool, True)
    opacityColumnVisible = stored(bool, True)
    visibilityColumnVisible = stored(bool, True)
    colorColumnVisible = stored(bool, True)
    headerVisible = stored(bool, True)
    readOnly = stored(bool, False)
    filterBarVisible = stored(bool, False)


@custom_widget
class qMRMLSegmentationShow3DButton(_WithScene, wrap(QtWidgets.QPushButton)):  # type: ignore[misc]
    """Shows and hides the closed surfaces of a segmentation in the 3D views."""

    mrmlSceneChanged = Signal(object)
    _node: Any = None

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        QtWidgets.QPushButton.setCheckable(self, True)
        self.clicked.connect(self._toggle)

    def setSegmentationNode(self, node: Any) -> None:
        self._node = node
        display = node.GetDisplayNode() if node is not None else None
        QtWidgets.QPushButton.setChecked(self, bool(display is not None and display.GetVisibility3D()))

    def segmentationNode(self) -> Any:
        return self._node

    def _toggle(self, on: bool) -> None:
        if self._node is not None and self._node.GetDisplayNode() is not None:
            self._node.GetDisplayNode().SetVisibility3D(on)


class qSlicerModuleManager(wrap(QtCore.QObject)):  # type: ignore[misc]
    """Signals a panel that its module is about to be unloaded."""

    moduleAboutToBeUnloaded = Signal(str)


def widgets() -> dict[str, type]:
    """Name -> class, as in the module ``slicer``."""
    return {name: value for name, value in globals().items() if name.startswith(("qMRML", "qSlicer"))}
