// Places the nodes of a directed graph in columns from left to right, after Sugiyama: break cycles, choose columns, order
// each column so that few edges cross, then move nodes up and down until edges are nearly straight.
//
// Pure: the same graph always gets the same picture, whatever the order of its parts. For 200 nodes and 300 edges it
// takes a few milliseconds, so no library and no worker is needed.

const SWEEPS = 12;

/**
 * @param nodes `[{ id, width, height }]`
 * @param edges `[{ from, to }]`, at most one for each pair; loops are left out by the caller
 * @param gaps `{ column, row }`
 * @returns `{ nodes: Map id → { x, y }, edges: Map "from→to" → { points, back }, width, height }`; x, y are left upper corners
 */
export function layout(nodes, edges, gaps = { column: 190, row: 36 }) {
  const ids = nodes.map((node) => node.id).sort();
  const known = new Set(ids);
  const pairs = edges
    .filter((edge) => edge.from !== edge.to && known.has(edge.from) && known.has(edge.to))
    .map((edge) => ({ from: edge.from, to: edge.to, back: false }))
    .sort((a, b) => key(a).localeCompare(key(b)));
  breakCycles(ids, pairs);
  const column = chooseColumns(ids, pairs);
  const cells = new Map(nodes.map((node) => [node.id, { id: node.id, column: column.get(node.id), width: node.width, height: node.height, before: [], after: [] }]));
  const chains = threadLongEdges(pairs, cells);
  const columns = orderColumns([...cells.values()]);
  placeRows(columns, gaps.row);
  return draw(columns, chains, cells, gaps);
}

const key = (edge) => `${edge.from}→${edge.to}`;

/** Turns the edges around that close a cycle, found by a walk in depth from the nodes that nobody calls, then from those that call most. */
function breakCycles(ids, pairs) {
  const out = new Map(ids.map((id) => [id, []]));
  const degree = new Map(ids.map((id) => [id, 0]));
  const called = new Set(pairs.map((pair) => pair.to));
  for (const pair of pairs) {
    out.get(pair.from).push(pair);
    degree.set(pair.from, degree.get(pair.from) - 1);
    degree.set(pair.to, degree.get(pair.to) + 1);
  }
  const likeliest = [...ids].sort((a, b) => called.has(a) - called.has(b) || degree.get(a) - degree.get(b) || a.localeCompare(b));
  const state = new Map();
  for (const root of likeliest) {
    if (state.has(root)) continue;
    const stack = [[root, 0]];
    state.set(root, 'open');
    while (stack.length > 0) {
      const top = stack[stack.length - 1];
      const pair = out.get(top[0])[top[1]++];
      if (!pair) {
        state.set(top[0], 'done');
        stack.pop();
      } else if (state.get(pair.to) === 'open') {
        pair.back = true;
      } else if (!state.has(pair.to)) {
        state.set(pair.to, 'open');
        stack.push([pair.to, 0]);
      }
    }
  }
}

const tail = (pair) => (pair.back ? pair.to : pair.from);
const head = (pair) => (pair.back ? pair.from : pair.to);

/** The longest way from a node that nobody calls; callers then move next to the first that they call. */
function chooseColumns(ids, pairs) {
  const column = new Map(ids.map((id) => [id, 0]));
  for (let moved = true, round = 0; moved && round <= ids.length; round += 1) {
    moved = false;
    for (const pair of pairs) {
      const least = column.get(tail(pair)) + 1;
      if (column.get(head(pair)) < least) {
        column.set(head(pair), least);
        moved = true;
      }
    }
  }
  for (const id of ids) {
    if (pairs.some((pair) => head(pair) === id)) continue;
    const callees = pairs.filter((pair) => tail(pair) === id).map((pair) => column.get(head(pair)));
    if (callees.length > 0) column.set(id, Math.min(...callees) - 1);
  }
  return column;
}

/** Puts a small cell into every column that an edge passes, so that edges keep clear of nodes. */
function threadLongEdges(pairs, cells) {
  const chains = new Map();
  for (const pair of pairs) {
    const chain = [cells.get(tail(pair))];
    for (let at = chain[0].column + 1; at < cells.get(head(pair)).column; at += 1) {
      const cell = { id: `${key(pair)}#${at}`, column: at, width: 0, height: 6, before: [], after: [], bend: true };
      cells.set(cell.id, cell);
      chain.push(cell);
    }
    chain.push(cells.get(head(pair)));
    for (let n = 1; n < chain.length; n += 1) {
      chain[n - 1].after.push(chain[n]);
      chain[n].before.push(chain[n - 1]);
    }
    chains.set(key(pair), { chain, back: pair.back });
  }
  return chains;
}

/** Sorts each column by where its neighbours stand, forth and back, and keeps the order with the fewest crossings. */
function orderColumns(cells) {
  const columns = [];
  for (const cell of cells.sort((a, b) => a.id.localeCompare(b.id))) (columns[cell.column] ??= []).push(cell);
  for (let n = 0; n < columns.length; n += 1) columns[n] ??= [];
  const number = (column) => column.forEach((cell, index) => { cell.order = index; });
  columns.forEach(number);
  let best = columns.map((column) => [...column]);
  let fewest = crossings(columns);
  for (let sweep = 0; sweep < SWEEPS && fewest > 0; sweep += 1) {
    const forth = sweep % 2 === 0;
    for (const column of forth ? columns : [...columns].reverse()) {
      const middle = (cell) => {
        const beside = forth ? cell.before : cell.after;
        return beside.length === 0 ? cell.order : beside.reduce((sum, other) => sum + other.order, 0) / beside.length;
      };
      const middles = new Map(column.map((cell) => [cell, middle(cell)]));
      column.sort((a, b) => middles.get(a) - middles.get(b) || a.order - b.order);
      number(column);
    }
    const count = crossings(columns);
    if (count < fewest) {
      fewest = count;
      best = columns.map((column) => [...column]);
    }
  }
  best.forEach(number);
  return best;
}

function crossings(columns) {
  let count = 0;
  for (const column of columns) {
    const ends = column.flatMap((cell) => cell.after.map((other) => [cell.order, other.order]));
    for (let a = 0; a < ends.length; a += 1) {
      for (let b = a + 1; b < ends.length; b += 1) {
        if ((ends[a][0] - ends[b][0]) * (ends[a][1] - ends[b][1]) < 0) count += 1;
      }
    }
  }
  return count;
}

/** Moves every cell towards the middle of its neighbours as far as the order of its column allows. */
function placeRows(columns, gap) {
  for (const column of columns) {
    const whole = column.reduce((sum, cell) => sum + cell.height + gap, -gap);
    let top = -whole / 2;
    for (const cell of column) {
      cell.y = top + cell.height / 2;
      top += cell.height + gap;
    }
  }
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    for (const column of sweep % 2 === 0 ? columns : [...columns].reverse()) {
      const wanted = column.map((cell) => {
        const beside = [...cell.before, ...cell.after];
        return beside.length === 0 ? cell.y : beside.reduce((sum, other) => sum + other.y, 0) / beside.length;
      });
      settle(column, wanted, gap);
    }
  }
}

/**
 * The places nearest to the wanted ones (least squares) that keep order and distance: what overlaps forms a block that
 * stands where its members want it on average.
 */
function settle(column, wanted, gap) {
  const offset = [];
  let sum = 0;
  column.forEach((cell, index) => {
    if (index > 0) sum += (column[index - 1].height + cell.height) / 2 + gap;
    offset.push(sum);
  });
  const blocks = [];
  wanted.forEach((y, index) => {
    let block = { total: y - offset[index], size: 1 };
    while (blocks.length > 0 && blocks.at(-1).total / blocks.at(-1).size > block.total / block.size) {
      const above = blocks.pop();
      block = { total: above.total + block.total, size: above.size + block.size };
    }
    blocks.push(block);
  });
  let index = 0;
  for (const block of blocks) {
    for (let n = 0; n < block.size; n += 1, index += 1) column[index].y = block.total / block.size + offset[index];
  }
}

function draw(columns, chains, cells, gaps) {
  let left = 0;
  for (const column of columns) {
    const width = Math.max(0, ...column.map((cell) => cell.width));
    for (const cell of column) cell.x = left + width / 2;
    left += width + gaps.column;
  }
  const all = [...cells.values()];
  const top = Math.min(0, ...all.map((cell) => cell.y - cell.height / 2));
  const bottom = Math.max(0, ...all.map((cell) => cell.y + cell.height / 2));
  const nodes = new Map();
  for (const cell of all) {
    if (!cell.bend) nodes.set(cell.id, { x: cell.x - cell.width / 2, y: cell.y - cell.height / 2 - top });
  }
  const edges = new Map();
  for (const [name, { chain, back }] of chains) {
    const points = chain.map((cell, index) => {
      const side = index === 0 ? cell.width / 2 : index === chain.length - 1 ? -cell.width / 2 : 0;
      return { x: cell.x + side, y: cell.y - top };
    });
    edges.set(name, { points: back ? points.reverse() : points, back });
  }
  return { nodes, edges, width: Math.max(0, left - gaps.column), height: bottom - top };
}
