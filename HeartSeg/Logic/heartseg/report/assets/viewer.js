"use strict";
// Interactive view of the scan, labels and surfaces with NiiVue; starts when it is scrolled into view.
(function () {
  const box = document.getElementById("viewer"), status = document.getElementById("viewer-status");
  const data = JSON.parse(document.getElementById("viewer-data").textContent);
  const bytes = (text) => Uint8Array.from(atob(text.trim()), (c) => c.charCodeAt(0));
  const say = (text) => { status.textContent = text; };

  async function library() {
    const packed = bytes(document.getElementById("niivue").textContent);
    const plain = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const url = URL.createObjectURL(new Blob([await new Response(plain).blob()], { type: "text/javascript" }));
    await new Promise((done, failed) => {
      const script = document.createElement("script");
      script.src = url; script.onload = done; script.onerror = () => failed(new Error("the viewer could not be loaded"));
      document.head.append(script);
    });
    return window.niivue;
  }

  function labelColors() {
    const map = { R: [0], G: [0], B: [0], A: [0], I: [0], labels: ["background"] };
    for (const s of data.structures) {
      map.R.push(s.color[0]); map.G.push(s.color[1]); map.B.push(s.color[2]); map.A.push(255);
      map.I.push(s.label); map.labels.push(s.name);
    }
    return map;
  }

  async function start() {
    if (!document.createElement("canvas").getContext("webgl2")) {
      say("This browser has no WebGL 2: the interactive view is not available. The pictures above show the same heart.");
      return;
    }
    say("Loading the interactive view …");
    const lib = await library();
    const nv = new lib.Niivue({ backColor: [0, 0, 0, 1], show3Dcrosshair: true, isOrientCube: false, crosshairWidth: 0.5,
      isRadiologicalConvention: true, multiplanarForceRender: true, dragAndDropEnabled: false, loadingText: "",
      meshXRay: 0.0, isResizeCanvas: true, logLevel: "error", sagittalNoseLeft: true });
    const canvas = document.getElementById("viewer-canvas");
    await nv.attachToCanvas(canvas);
    if (data.grey) nv.addVolume(await lib.NVImage.loadFromBase64({ base64: data.grey, name: "scan.nii.gz", colormap: "gray", cal_min: 0, cal_max: 255 }));
    const labels = await lib.NVImage.loadFromBase64({ base64: data.labels, name: "labels.nii.gz", opacity: data.grey ? 0.45 : 1 });
    labels.setColormapLabel(labelColors());
    nv.addVolume(labels);
    for (const s of data.structures.filter((s) => s.surface)) {
      const mesh = await lib.NVMesh.readMesh(bytes(s.surface).buffer, s.key + ".mz3", nv.gl, s.key === "MYO" ? 0.55 : 1, [...s.color, 255], true);
      nv.addMesh(mesh); s.mesh = mesh;
    }
    const overlay = nv.volumes.length - 1;
    if (data.structures.some((s) => s.mesh)) nv.drawImage3D = () => {};  // 3D shows the surfaces alone
    nv.setMeshThicknessOn2D(0);  // slices show the labels alone
    nv.updateGLVolume();
    nv.setMultiplanarLayout(lib.MULTIPLANAR_TYPE.GRID);
    connect(nv, lib, overlay);
    view(nv, lib, document.getElementById("viewer-layout").value);
    say("Drag to turn the heart or to move the cross; the controls below do the same.");
    box.dataset.ready = "yes";
    window.heartsegViewer = nv;
  }

  function view(nv, lib, name) {
    const types = { all: lib.SLICE_TYPE.MULTIPLANAR, render: lib.SLICE_TYPE.RENDER, axial: lib.SLICE_TYPE.AXIAL, coronal: lib.SLICE_TYPE.CORONAL, sagittal: lib.SLICE_TYPE.SAGITTAL };
    nv.setSliceType(types[name]);
  }

  function connect(nv, lib, overlay) {
    const by = (id) => document.getElementById(id);
    by("viewer-layout").onchange = (e) => view(nv, lib, e.target.value);
    const turn = () => nv.setRenderAzimuthElevation(Number(by("viewer-azimuth").value), Number(by("viewer-elevation").value));
    by("viewer-azimuth").oninput = turn; by("viewer-elevation").oninput = turn;
    by("viewer-opacity").oninput = (e) => nv.setOpacity(overlay, Number(e.target.value) / 100);
    const axes = ["sagittal", "coronal", "axial"];
    axes.forEach((name, axis) => {
      by("viewer-" + name).oninput = (e) => {
        const at = [...nv.scene.crosshairPos];
        at[axis] = Number(e.target.value) / 100;
        nv.scene.crosshairPos = at; nv.drawScene(); nv.createOnLocationChange();
      };
    });
    nv.onLocationChange = (where) => {
      axes.forEach((name, axis) => { by("viewer-" + name).value = Math.round(100 * nv.scene.crosshairPos[axis]); });
      const [r, a, s] = where.mm, side = (v, plus, minus) => (v >= 0 ? plus : minus) + " " + Math.abs(v).toFixed(0);
      const value = where.values && where.values[overlay] ? Math.round(where.values[overlay].value) : 0;
      const here = data.structures.find((t) => t.label === value);
      by("viewer-place").textContent = `${side(r, "R", "L")}, ${side(a, "A", "P")}, ${side(s, "S", "I")} mm: ${here ? here.name : "background"}`;
    };
    for (const s of data.structures) {
      const tick = by("viewer-show-" + s.key);
      if (!tick) continue;
      tick.onchange = () => {
        if (s.mesh) { s.mesh.visible = tick.checked; }
        const map = labelColors();
        data.structures.forEach((t) => { const b = by("viewer-show-" + t.key); if (b && !b.checked) map.A[map.I.indexOf(t.label)] = 0; });
        nv.volumes[overlay].setColormapLabel(map);
        nv.updateGLVolume();
      };
    }
    turn();
  }

  const begin = () => start().catch((error) => say("The interactive view is not available (" + error.message + "). The pictures above show the same heart."));
  if ("IntersectionObserver" in window) {
    const seen = new IntersectionObserver((entries) => { if (entries.some((e) => e.isIntersecting)) { seen.disconnect(); begin(); } }, { rootMargin: "200px" });
    seen.observe(box);
  } else begin();
})();
