// The scores of a video over time.
"use strict";

const CURVE = { width: 600, height: 120 };

/** Seconds as a clock shows them. */
function clock(seconds) {
  const whole_ = Math.floor(seconds), two = (number) => String(number).padStart(2, "0");
  const hours = Math.floor(whole_ / 3600), minutes = Math.floor(whole_ / 60) % 60;
  return hours ? `${hours}:${two(minutes)}:${two(whole_ % 60)}` : `${minutes}:${two(whole_ % 60)}`;
}

/** A curve [seconds, scores] over the scale of the scores, with its worst point marked. */
function curveOf([times, scores], axis, higherIsBetter, say) {
  const { width, height } = CURVE, end = times[times.length - 1] || 1;
  const x = (i) => (times[i] / end) * width;
  const y = (i) => height - ((scores[i] - axis.low) / (axis.high - axis.low)) * height;
  const worst = scores.indexOf((higherIsBetter ? Math.min : Math.max)(...scores));
  const line = scores.map((_, i) => `${i ? "L" : "M"}${x(i).toFixed(1)} ${y(i).toFixed(1)}`).join("");
  const text = `Worst at ${clock(times[worst])}: ${say(scores[worst])}`;
  const drawing = svg(
    "svg", { viewBox: `0 -4 ${width} ${height + 8}`, preserveAspectRatio: "none", role: "img", "aria-label": `Scores over time. ${text}` },
    // With one frame there is no line between points, so the line is horizontal.
    svg("path", { d: scores.length > 1 ? line : `M0 ${y(0).toFixed(1)}H${width}`, class: "line" }),
    svg("path", { d: `M${x(worst).toFixed(1)} -4V${height + 4}`, class: "worst" }),
  );
  return el(
    "figure", { className: "curve" },
    drawing,
    el("p", { className: "curve-ends" }, el("span", {}, clock(0)), el("span", { className: "worst-text" }, text), el("span", {}, clock(end))),
  );
}
