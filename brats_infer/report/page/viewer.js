// The interactive view of one case: NiiVue on the volumes of data/ID.js, loaded when the case is opened.
const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

function loadScript(address) {
  return new Promise((done, failed) => {
    const script = el("script", { src: address });
    script.onload = () => { script.remove(); done(); };
    script.onerror = () => { script.remove(); failed(new Error(`${address} is not beside this page: copy the whole folder`)); };
    document.head.append(script);
  });
}

// Volumes are found by ID: those of a case opened before may arrive later.
async function loadVolumes(address, id) {
  await loadScript(address);
  const volumes = bratsOpt.arrived.get(id);
  bratsOpt.arrived.delete(id);
  if (!volumes) throw new Error(`${address} holds another case: make the report again`);
  return volumes;
}

// The picture holds all slices below one another, so its pixels are the voxels in order. It is drawn in pieces: no
// canvas may be as tall.
async function voxelsOfJpeg(text, [x, y, z]) {
  const picture = await createImageBitmap(new Blob([bytesOf(text)], { type: "image/jpeg" }));
  const voxels = new Uint8Array(x * y * z), slices = Math.max(1, Math.floor(4096 / y));
  const pad = new OffscreenCanvas(x, y * slices).getContext("2d", { willReadFrequently: true });
  for (let first = 0; first < z; first += slices) {
    const rows = y * Math.min(slices, z - first);
    pad.drawImage(picture, 0, y * first, x, rows, 0, 0, x, rows);
    const { data } = pad.getImageData(0, 0, x, rows), begin = x * y * first;
    for (let i = 0; i < x * rows; i++) voxels[begin + i] = data[4 * i] < 8 ? 0 : data[4 * i];  // below: JPEG's ripples around the brain
  }
  picture.close();
  return voxels;
}

async function voxelsOfGzip(text) {
  const stream = new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function rgb(colour) {
  return [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
}

class Viewer {
  // Opens a viewer on a canvas. Throws where the browser has no WebGL2.
  static async open(canvas) {
    if (!document.createElement("canvas").getContext("webgl2")) throw new Error("this browser shows no WebGL2");
    if (!window.niivue) await loadScript("viewer/niivue.umd.js");
    const viewer = new Viewer();
    viewer.nv = new niivue.Niivue({
      backColor: [0, 0, 0, 1], crosshairColor: [1, 1, 1, 0.55], crosshairWidth: 0.6, crosshairGap: 4, isRadiologicalConvention: true,
      sagittalNoseLeft: true, multiplanarShowRender: niivue.SHOW_RENDER.ALWAYS, multiplanarLayout: niivue.MULTIPLANAR_TYPE.GRID, multiplanarPadPixels: 4,
      show3Dcrosshair: true, dragAndDropEnabled: false, isOrientCube: false, fontSizeScaling: 0.3, logLevel: "error", clipPlaneColor: [0, 0, 0, 0], loadingText: "",
      clipPlaneHotKey: "", viewModeHotKey: "", cycleClipPlaneHotKey: "",
    });
    await viewer.nv.attachToCanvas(canvas);
    return viewer;
  }

  async show(volumes, contrast) {
    this.volumes = volumes;
    this.decoded = {};
    this.wanted = {};
    await this.nv.loadFromArrayBuffer(this.nifti(await this.contrast(contrast)), "image.nii");
    await this.nv.loadFromArrayBuffer(this.nifti(await voxelsOfGzip(Object.values(volumes.overlays)[0])), "labels.nii");
    this.nv.setInterpolation(false);
  }

  nifti(voxels) {
    const header = bytesOf(this.volumes.header), file = new Uint8Array(header.length + voxels.length);
    file.set(header);
    file.set(voxels, header.length);
    return file.buffer;
  }

  async contrast(name) {
    this.decoded[name] ??= await voxelsOfJpeg(this.volumes.images[name], this.volumes.shape);
    return this.decoded[name];
  }

  // NiiVue keeps a volume's voxels in the file's order, so another contrast replaces the voxels of the same volume.
  // The first of two choices may be decoded last; it is dropped then.
  async setContrast(name) {
    this.wanted.contrast = name;
    const voxels = await this.contrast(name);
    if (!this.nv || this.wanted.contrast !== name) return;
    this.nv.volumes[0].img = voxels;
    this.nv.updateGLVolume();
  }

  async setOverlay(name) {
    this.wanted.overlay = name;
    const voxels = await voxelsOfGzip(this.volumes.overlays[name]);
    if (this.nv && this.wanted.overlay === name) this.nv.volumes[1].img = voxels;
  }

  // Draws the entries of `legend` [{value, colour}] whose values are in the Set `shown`.
  setShown(legend, shown, opacity) {
    const highest = Math.max(...legend.map((entry) => entry.value)), lut = new Uint8ClampedArray(4 * (highest + 1));
    for (const { value, colour } of legend) lut.set([...rgb(colour), shown.has(value) ? 255 : 0], 4 * value);
    const overlay = this.nv.volumes[1];
    overlay.colormapLabel = { lut, min: 0, max: highest };
    overlay.cal_min = 0;
    overlay.cal_max = highest;
    this.nv.setOpacity(1, opacity);
  }

  setView(name) {
    const { AXIAL, CORONAL, SAGITTAL, MULTIPLANAR, RENDER } = niivue.SLICE_TYPE;
    this.nv.setSliceType({ axial: AXIAL, coronal: CORONAL, sagittal: SAGITTAL, "3-D": RENDER, all: MULTIPLANAR }[name]);
  }

  goTo(mm) {
    this.nv.scene.crosshairPos = this.nv.mm2frac([...mm, 1]);
    this.nv.drawScene();
  }

  // Cuts the 3-D view open, or not. [depth, azimuth, elevation]: depth 2 is outside of the volume.
  setCut(open) {
    this.nv.setClipPlane(open ? [0.1, 180, 40] : [2, 0, 0]);
  }

  step(x, y, z) {
    this.nv.moveCrosshairInVox(x, y, z);
  }

  close() {
    this.nv.gl.getExtension("WEBGL_lose_context")?.loseContext();  // browsers allow few contexts at a time
    this.nv = null;
  }
}
