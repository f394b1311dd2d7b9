from __future__ import annotations
import slicer

def test_run(session, panel, scan):
    panel.initializeParameterNode()
    assert panel.ui.segmentButton.enabled, panel.ui.segmentButton.toolTip
    panel.ui.segmentButton.click()
    assert panel.ui.segmentButton.text == "Cancel"
    session.wait_until(lambda: panel.ui.segmentButton.text != "Cancel")
    print(panel.ui.statusLabel.text, panel.ui.errorLabel.text, panel.ui.logText.plainText)
    nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    assert len(nodes) == 1
    print(nodes[0].GetSegmentation().GetSegmentIDs())
