// The displacement u of one pair and method, as cohortmorph/displacement.py writes it: mm, LPS, on the fixed image's
// grid; the fixed point x corresponds to the moving point x + u(x). tests/test_viewer.py compares every number with Python.

const FAILED_MM = 1e9; // what stands everywhere for a registration that failed
const FLOAT32 = 16;
const RGBA32 = 2304;
const LANDED_MM = 1e-3;

/** Return what gunzip makes of a buffer; a buffer that is not compressed stays as it is. */
async function unpacked(buffer) {
  const [first, second] = new Uint8Array(buffer, 0, 2);
  if (first !== 0x1f || second !== 0x8b) return buffer;
  const stream = new Blob([buffer]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

/** Return the inverse of a matrix, three rows of three. */
function inverse(m) {
  const cofactor = (r, c) => {
    const [a, b] = [(r + 1) % 3, (r + 2) % 3];
    const [d, e] = [(c + 1) % 3, (c + 2) % 3];
    return m[a][d] * m[b][e] - m[a][e] * m[b][d];
  };
  const determinant = m[0][0] * cofactor(0, 0) + m[0][1] * cofactor(0, 1) + m[0][2] * cofactor(0, 2);
  return [0, 1, 2].map((r) => [0, 1, 2].map((c) => cofactor(c, r) / determinant));
}

const times = (m, v) => m.map((row) => row[0] * v[0] + row[1] * v[1] + row[2] * v[2]);
const plus = (a, b) => a.map((value, n) => value + b[n]);
const minus = (a, b) => a.map((value, n) => value - b[n]);

/** LPS from RAS, or back: the first two components change sign. */
export const turned = ([x, y, z]) => [-x, -y, z];

/** The voxels of an image in the world: LPS, mm. */
export class Grid {
  /** From the size along i, j, k and the affine of NIfTI (RAS, mm; three or four rows of four). */
  constructor(size, affineRas) {
    this.size = size;
    const signs = [-1, -1, 1];
    this.steps = signs.map((sign, r) => affineRas[r].slice(0, 3).map((value) => sign * value)); // as columns
    this.origin = signs.map((sign, r) => sign * affineRas[r][3]);
    this.inverseSteps = inverse(this.steps);
  }

  /** Return the position of a voxel, LPS, mm. */
  toWorld(index) {
    return plus(times(this.steps, index), this.origin);
  }

  /** Return the continuous voxel index of a position in LPS, mm. */
  toIndex(point) {
    return times(this.inverseSteps, minus(point, this.origin));
  }
}

export class Displacement {
  /** Read a file's bytes; what is not a displacement on `grid` throws an Error that says so in words. */
  static async read(buffer, grid) {
    let bytes;
    try {
      bytes = await unpacked(buffer);
    } catch {
      throw new Error("the file is damaged: it cannot be unpacked");
    }
    if (bytes.byteLength < 352) throw new Error("the file is damaged: it is shorter than a NIfTI header");
    const header = new DataView(bytes);
    if (header.getInt32(0, true) !== 348) throw new Error("it is not a little-endian NIfTI file");
    const dims = Array.from({ length: 8 }, (_, n) => header.getInt16(40 + 2 * n, true));
    if (dims[0] !== 5 || dims[5] !== 3 || header.getInt16(70, true) !== FLOAT32)
      throw new Error("it is not a 5-D NIfTI file of three float32 components a voxel");
    const size = dims.slice(1, 4);
    if (size.some((length, axis) => length !== grid.size[axis]))
      throw new Error(`its grid of ${size.join(" × ")} voxels is not the fixed image's, ${grid.size.join(" × ")}`);
    const rows = [0, 1, 2].map((r) => [0, 1, 2, 3].map((c) => header.getFloat32(280 + 16 * r + 4 * c, true)));
    const own = new Grid(size, rows);
    const last = size.map((length) => length - 1);
    for (const corner of [[0, 0, 0], last, [last[0], 0, 0], [0, last[1], 0]]) {
      const apart = Math.hypot(...minus(own.toWorld(corner), grid.toWorld(corner)));
      const spacing = Math.min(...[0, 1, 2].map((c) => Math.hypot(...grid.steps.map((row) => row[c]))));
      if (!(apart <= 0.01 * spacing)) throw new Error(`its grid lies ${apart.toFixed(2)} mm beside the fixed image's`);
    }
    const start = header.getFloat32(108, true);
    const count = 3 * size[0] * size[1] * size[2];
    if (bytes.byteLength < start + 4 * count) throw new Error("the file is damaged: it ends too early");
    return new Displacement(new Float32Array(bytes.slice(start, start + 4 * count)), grid, bytes.slice(0, 352));
  }

  /** `values` hold one component after the other, i fastest; `header` is what a volume on the same grid begins with. */
  constructor(values, grid, header) {
    Object.assign(this, { values, grid, header });
    this.voxels = values.length / 3;
    this.strides = [1, grid.size[0], grid.size[0] * grid.size[1]];
    this.failed = values.every((value) => value === FAILED_MM);
  }

  /** Return u at a position (LPS, mm), interpolated linearly; null outside of the grid. */
  at(point) {
    const index = this.grid.toIndex(point);
    const low = [], share = [];
    for (let axis = 0; axis < 3; axis++) {
      const last = this.grid.size[axis] - 1;
      if (!(index[axis] >= -1e-6 && index[axis] <= last + 1e-6)) return null;
      const inside = Math.min(Math.max(index[axis], 0), last);
      low[axis] = Math.min(Math.floor(inside), Math.max(last - 1, 0));
      share[axis] = inside - low[axis];
    }
    const sum = [0, 0, 0];
    for (let corner = 0; corner < 8; corner++) {
      let weight = 1, voxel = 0;
      for (let axis = 0; axis < 3; axis++) {
        const up = (corner >> axis) & 1;
        weight *= up ? share[axis] : 1 - share[axis];
        voxel += (low[axis] + up) * this.strides[axis];
      }
      if (weight > 0) for (let c = 0; c < 3; c++) sum[c] += weight * this.values[voxel + c * this.voxels];
    }
    return sum;
  }

  /** Return the moving point x + u(x) of a fixed point x (LPS, mm); null outside of the grid. */
  move(point) {
    const u = this.at(point);
    return u && plus(point, u);
  }

  /** Return the fixed point where a moving point (LPS, mm) appears in the moved image, or null, by Newton's method. */
  whereAppears(movingPoint, start) {
    let point = start;
    for (let turn = 0; turn < 50; turn++) {
      const moved = this.move(point);
      if (!moved) return null;
      const left = minus(movingPoint, moved);
      if (Math.hypot(...left) < LANDED_MM) return point;
      const index = this.grid.toIndex(point);
      // How x + u(x) changes from voxel to voxel, as columns; one-sided at the border.
      const columns = [0, 1, 2].map((axis) => {
        const [before, after] = [-0.5, 0.5].map((step) => {
          const beside = index.slice();
          beside[axis] = Math.min(Math.max(beside[axis] + step, 0), this.grid.size[axis] - 1);
          return beside;
        });
        const width = after[axis] - before[axis];
        const step = this.grid.steps.map((row) => row[axis]);
        if (!(width > 0)) return step; // an axis of one voxel
        const ends = [before, after].map((beside) => this.at(this.grid.toWorld(beside)));
        return step.map((value, c) => value + (ends[1][c] - ends[0][c]) / width);
      });
      const matrix = [0, 1, 2].map((r) => columns.map((column) => column[r]));
      point = this.grid.toWorld(plus(index, times(inverse(matrix), left)));
    }
    return null;
  }

  /** Return the Jacobian determinant of x ↦ x + u(x) at each voxel, by central differences, one-sided at the border. */
  jacobian() {
    const { size, steps } = this.grid;
    const { values, voxels, strides } = this;
    const volume = (a, b, c) =>
      a[0] * (b[1] * c[2] - b[2] * c[1]) + a[1] * (b[2] * c[0] - b[0] * c[2]) + a[2] * (b[0] * c[1] - b[1] * c[0]);
    const unit = volume(...[0, 1, 2].map((axis) => steps.map((row) => row[axis])));
    const determinant = new Float32Array(voxels);
    const edges = [[0, 0, 0], [0, 0, 0], [0, 0, 0]];
    const index = [0, 0, 0];
    for (let voxel = 0; voxel < voxels; voxel++) {
      for (let axis = 0; axis < 3; axis++) {
        const before = index[axis] > 0 ? strides[axis] : 0;
        const after = index[axis] < size[axis] - 1 ? strides[axis] : 0;
        const width = (before + after) / strides[axis] || 1;
        for (let c = 0; c < 3; c++) {
          const at = voxel + c * voxels;
          edges[axis][c] = steps[c][axis] + (values[at + after] - values[at - before]) / width;
        }
      }
      determinant[voxel] = volume(...edges) / unit;
      for (let axis = 0; axis < 3 && ++index[axis] === size[axis]; axis++) index[axis] = 0;
    }
    return determinant;
  }

  /** Return an array with four bytes a voxel, `paint(value)`, as the bytes of a NIfTI file on the same grid. */
  painted(array, paint) {
    const bytes = new Uint8Array(352 + 4 * this.voxels);
    bytes.set(new Uint8Array(this.header));
    const header = new DataView(bytes.buffer);
    [3, ...this.grid.size, 1, 1, 1, 1].forEach((length, n) => header.setInt16(40 + 2 * n, length, true));
    header.setInt16(68, 0, true); // no intent
    header.setInt16(70, RGBA32, true);
    header.setInt16(72, 32, true);
    header.setFloat32(108, 352, true);
    [112, 116, 124, 128].forEach((at) => header.setFloat32(at, 0, true)); // neither scaling nor limits
    header.setUint32(348, 0, true); // no extension
    for (let voxel = 0; voxel < this.voxels; voxel++) bytes.set(paint(array[voxel]), 352 + 4 * voxel);
    return bytes.buffer;
  }
}

const SHRINKS = [33, 102, 172];
const GROWS = [230, 97, 1];
const FOLDS = [255, 0, 255];

/** Return the colour (RGBA) of a Jacobian determinant: nothing where volumes stay; full at a half and the double.
 *
 * The root makes changes of a few percent visible. */
export function colourOfJacobian(determinant) {
  if (!(determinant > 0)) return [...FOLDS, 255];
  const octaves = Math.min(Math.max(Math.log2(determinant), -1), 1);
  return [...(octaves < 0 ? SHRINKS : GROWS), Math.round(255 * Math.sqrt(Math.abs(octaves)))];
}
