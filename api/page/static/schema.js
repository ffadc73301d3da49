// What a model takes, read from its schema (GET /v1/models → latest_version.openapi_schema).

const RATIOS = [
  [1, 1],
  [4, 3],
  [3, 4],
  [3, 2],
  [2, 3],
  [16, 9],
  [9, 16],
];

/** The inputs of a model in the order of its schema: [name, schema] pairs. */
export function inputsOf(model) {
  const inputs = model.latest_version.openapi_schema.components.schemas.Input.properties;
  return Object.entries(inputs).sort(([, a], [, b]) => (a["x-order"] ?? 0) - (b["x-order"] ?? 0));
}

/**
 * Sizes of common shapes that the model can draw, each with about as many pixels as its own size, which comes first.
 * `width` and `height` are their schemas.
 */
export function sizePresets(width, height) {
  const pixels = width.default * height.default;
  const presets = [[width.default, height.default]];
  for (const [across, down] of RATIOS) {
    const size = [
      fit(Math.sqrt((pixels * across) / down), width),
      fit(Math.sqrt((pixels * down) / across), height),
    ];
    const hasShape = Math.abs(size[0] / size[1] / (across / down) - 1) < 0.1;
    if (hasShape && !presets.some((each) => each[0] === size[0] && each[1] === size[1])) presets.push(size);
  }
  return presets;
}

function fit(side, { minimum = 1, maximum = Infinity, multipleOf = 1 }) {
  const least = Math.ceil(minimum / multipleOf) * multipleOf;
  const most = Math.floor(maximum / multipleOf) * multipleOf;
  return Math.min(most, Math.max(least, Math.round(side / multipleOf) * multipleOf));
}

/** "16:9" and the like, of the common shape that a size is nearest to. */
export function ratioWords([width, height]) {
  const [across, down] = RATIOS.reduce((best, each) =>
    Math.abs(Math.log(width / height / (each[0] / each[1]))) < Math.abs(Math.log(width / height / (best[0] / best[1])))
      ? each
      : best,
  );
  return `${across}:${down}`;
}
