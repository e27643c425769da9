// A photo, and the quality map that covers exactly its pixels. Shared by report and service.
"use strict";

const RAMP = [[178, 24, 43], [239, 138, 98], [247, 247, 247], [103, 169, 207], [33, 102, 172]];

/** The color of a share between worst (0) and best (1): red, white, blue. */
function rampColor(share_) {
  const at = Math.min(Math.max(share_, 0), 1) * (RAMP.length - 1);
  const i = Math.min(Math.floor(at), RAMP.length - 2);
  return RAMP[i].map((channel, k) => Math.round(channel + (at - i) * (RAMP[i + 1][k] - channel)));
}

/** The range of values for the colors: maps shown together share it. */
function spanOf(maps) {
  return { low: Math.min(...maps.map((map) => map.low)), high: Math.max(...maps.map((map) => map.high)) };
}

/** A quality map {rows, columns, values: 0..255 row by row, low, high}, drawn with one pixel per cell. */
function mapCanvas(map, { low, high } = map, higherIsBetter = true) {
  const canvas = el("canvas", {
    width: map.columns, height: map.rows, role: "img", "aria-label": "Quality map: where the image looks better and worse",
  });
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(map.columns, map.rows);
  map.values.forEach((step, i) => {
    const value = map.low + (step / 255) * (map.high - map.low);
    const at = (value - low) / (high - low);
    pixels.data.set([...rampColor(higherIsBetter ? at : 1 - at), 255], 4 * i);
  });
  context.putImageData(pixels, 0, 0);
  return canvas;
}

/** The color scale of a map with its ends, within the range of the label. */
function rampOf({ low, high }, label, say) {
  const ends = [Math.max(low, label.minimum ?? low), Math.min(high, label.maximum ?? high)];
  const shares = ends.map((value) => (value - low) / (high - low));
  if (!label.higher_is_better) {
    ends.reverse();
    shares.splice(0, 2, 1 - shares[1], 1 - shares[0]);
  }
  const colors = [0, 1, 2, 3, 4, 5, 6, 7, 8].map((i) => `rgb(${rampColor(shares[0] + (i / 8) * (shares[1] - shares[0]))})`);
  const ramp = el("div", { className: "ramp" });
  ramp.style.backgroundImage = `linear-gradient(90deg, ${colors.join(", ")})`;
  return [
    ramp,
    el("p", { className: "ramp-ends" }, el("span", {}, `${say(ends[0])} worse here`), el("span", {}, `better here ${say(ends[1])}`)),
  ];
}

/** A photo fitted into its container; overlays have the photo's own box. */
function framed(image) {
  const photo = el("span", { className: "photo" }, image);
  const fit = () => {
    photo.style.setProperty("--ratio", image.naturalWidth / image.naturalHeight);
    photo.style.setProperty("--natural", `${image.naturalWidth}px`);
  };
  image.addEventListener("load", fit);
  if (image.complete && image.naturalWidth) fit();
  return el("span", { className: "frame" }, photo);
}
