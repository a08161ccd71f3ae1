// Colours. The palette, its order and the two backgrounds are TensorBoard's own, so that a run has the
// same colour here and in Time Series; everything else is grey.

const PALETTE = {
  light: ["#425066", "#12b5cb", "#e52592", "#f9ab00", "#9334e6", "#7cb342", "#e8710a"],
  dark: ["#8e98a3", "#12b5cb", "#e52592", "#f9ab00", "#9334e6", "#7cb342", "#e8710a"],
};

const LIGHT = {
  paper: "#ffffff", text: "#212121", soft: "#5f6368", grid: "#eceef0", axis: "#c4c7ca", accent: "#e8710a",
  scale: [[0, "#ffffff"], [0.15, "#dfeaf4"], [0.4, "#9cc3df"], [0.7, "#3f83b8"], [1, "#0b3c6f"]],
  heights: [[0, "#f7fafc"], [0.3, "#d5e4ef"], [0.65, "#9dc0d9"], [1, "#5e93b9"]],
};
const DARK = {
  paper: "#303030", text: "#eeeeee", soft: "#b4b4b4", grid: "#424242", axis: "#666666", accent: "#ffb26b",
  heights: [[0, "#2a3036"], [0.3, "#33444f"], [0.65, "#42667a"], [1, "#5f93a8"]],
  scale: [[0, "#303030"], [0.15, "#2d4250"], [0.4, "#2d6f8e"], [0.7, "#57b1b5"], [1, "#f3f7d4"]],
};

export const FONT = 'Roboto, "Helvetica Neue", Helvetica, Arial, sans-serif';

/** Paper, text, grid and the scale of heat maps. */
export function inks(dark) {
  return dark ? DARK : LIGHT;
}

/** "#12b5cb", 0.2 -> "rgba(18,181,203,0.2)". */
export function faded(colour, alpha) {
  const parts = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return `rgba(${parts.join(",")},${alpha})`;
}

/**
 * Colours of runs as TensorBoard gives them: by the order in which a run was first seen. The map only
 * grows, for a run that starts late but sorts early must not shift the colours of the others.
 */
export function runColours() {
  const index = new Map();
  return {
    see(names) {
      for (const name of names) if (!index.has(name)) index.set(name, index.size);
    },
    /** The colour of the tab's run: that of the first of its members that TensorBoard lists. */
    of(run, dark) {
      const seen = [run.run, ...run.members].filter((name) => index.has(name)).map((name) => index.get(name));
      const palette = dark ? PALETTE.dark : PALETTE.light;
      return palette[(seen.length ? Math.min(...seen) : index.size) % palette.length];
    },
  };
}
