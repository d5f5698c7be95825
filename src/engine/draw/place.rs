//! Places a DAG in rows: ranks, order within the ranks, coordinates (after Sugiyama, Tagawa and Toda, 1981).
//!
//! Own code: layout-rs walks every path in its check for circles, so a hundred stages in diamonds took it minutes.

/// Space between neighbours of a row, and between rows.
const GAP: f64 = 26.0;
const ROW_GAP: f64 = 46.0;
/// The space an edge takes when it passes through a row.
const LANE: f64 = 10.0;
/// Beyond this many points of edges, rows are not ordered any more: nobody follows a line in such a picture.
const MANY: usize = 20_000;

/// Where everything is drawn.
pub(super) struct Placed {
    /// Top left corner of each box.
    pub(super) corners: Vec<(f64, f64)>,
    /// For each edge the points its curve passes, from box to box. Between an even and the next odd point it bends,
    /// from an odd to the next even one it goes straight down.
    pub(super) routes: Vec<Vec<(f64, f64)>>,
    /// Width and height of it all.
    pub(super) size: (f64, f64),
}

/// A box, or the place where an edge passes through a row.
struct Item {
    width: f64,
    row: usize,
    /// Centre.
    x: f64,
    above: Vec<usize>,
    below: Vec<usize>,
    /// How much it matters that it lies straight below what is above.
    weight: f64,
}

/// Places boxes of these sizes; edges go from box to box and form no circle.
pub(super) fn place(sizes: &[(f64, f64)], edges: &[(usize, usize)]) -> Placed {
    let rows = ranks(sizes.len(), edges);
    let mut items: Vec<Item> = sizes
        .iter()
        .zip(&rows)
        .map(|((width, _), row)| Item { width: *width, row: *row, x: 0.0, above: vec![], below: vec![], weight: 1.0 })
        .collect();
    let span: usize = edges.iter().map(|(from, to)| rows[*to] - rows[*from]).sum();
    let tidy = span <= MANY;
    // The items of each edge, from box to box.
    let mut chains: Vec<Vec<usize>> = Vec::with_capacity(edges.len());
    for (from, to) in edges {
        let mut chain = vec![*from];
        if tidy {
            for row in rows[*from] + 1..rows[*to] {
                items.push(Item { width: LANE, row, x: 0.0, above: vec![], below: vec![], weight: 4.0 });
                chain.push(items.len() - 1);
            }
        }
        chain.push(*to);
        for pair in chain.windows(2) {
            items[pair[0]].below.push(pair[1]);
            items[pair[1]].above.push(pair[0]);
        }
        chains.push(chain);
    }
    let mut order: Vec<Vec<usize>> = vec![Vec::new(); rows.iter().max().map_or(0, |last| last + 1)];
    for (item, place) in items.iter().enumerate() {
        order[place.row].push(item);
    }
    if tidy {
        uncross(&items, &mut order);
    }
    spread(&mut items, &order, tidy);
    straighten(&mut items, &order, &chains);
    draw(sizes, edges, &items, &order, &chains)
}

/// Returns the row of each box: below all it depends on; those that depend on nothing just above what needs them.
fn ranks(count: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut below: Vec<Vec<usize>> = vec![Vec::new(); count];
    let mut waiting = vec![0usize; count];
    for (from, to) in edges {
        below[*from].push(*to);
        waiting[*to] += 1;
    }
    let first: Vec<usize> = (0..count).filter(|item| waiting[*item] == 0).collect();
    let mut rows = vec![0usize; count];
    let mut open = first.clone();
    while let Some(item) = open.pop() {
        for next in &below[item] {
            rows[*next] = rows[*next].max(rows[item] + 1);
            waiting[*next] -= 1;
            if waiting[*next] == 0 {
                open.push(*next);
            }
        }
    }
    for item in first {
        if let Some(nearest) = below[item].iter().map(|next| rows[*next]).min() {
            rows[item] = nearest.saturating_sub(1);
        }
    }
    rows
}

/// Orders each row by the mean place of its neighbours, up and down in turn, and keeps the order with the fewest crossings.
fn uncross(items: &[Item], order: &mut Vec<Vec<usize>>) {
    let mut position = vec![0usize; items.len()];
    let note = |row: &[usize], position: &mut Vec<usize>| {
        for (at, item) in row.iter().enumerate() {
            position[*item] = at;
        }
    };
    order.iter().for_each(|row| note(row, &mut position));
    let mut best = (crossings(items, order, &position), order.clone());
    for sweep in 0..16 {
        let down = sweep % 2 == 0;
        let rows: Vec<usize> =
            if down { (1..order.len()).collect() } else { (0..order.len().saturating_sub(1)).rev().collect() };
        for row in rows {
            let mean = |item: &usize| {
                let near = if down { &items[*item].above } else { &items[*item].below };
                match near.len() {
                    0 => position[*item] as f64,
                    n => near.iter().map(|other| position[*other] as f64).sum::<f64>() / n as f64,
                }
            };
            let mut keyed: Vec<(f64, usize)> = order[row].iter().map(|item| (mean(item), *item)).collect();
            // Stable: equal means keep their order, so equal pictures get equal bytes.
            keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
            order[row] = keyed.into_iter().map(|(_, item)| item).collect();
            note(&order[row], &mut position);
        }
        let now = crossings(items, order, &position);
        if now < best.0 {
            best = (now, order.clone());
        }
    }
    *order = best.1;
}

/// Counts crossings row by row: pairs of edges whose ends are in opposite order.
fn crossings(items: &[Item], order: &[Vec<usize>], position: &[usize]) -> usize {
    let mut total = 0;
    for row in order {
        let mut ends = Vec::new();
        for item in row {
            let mut below: Vec<usize> = items[*item].below.iter().map(|other| position[*other]).collect();
            below.sort_unstable();
            ends.extend(below);
        }
        // Inversions, by counting those seen so far that lie further right.
        let mut seen = vec![0usize; ends.iter().max().map_or(0, |last| last + 2)];
        for (count, end) in ends.iter().enumerate() {
            let mut not_right = 0;
            let mut at = end + 1;
            while at > 0 {
                not_right += seen[at];
                at &= at - 1;
            }
            total += count - not_right;
            let mut at = end + 1;
            while at < seen.len() {
                seen[at] += 1;
                at += at & at.wrapping_neg();
            }
        }
    }
    total
}

/// Gives every item its centre: near the mean of its neighbours, in order, with room between.
fn spread(items: &mut [Item], order: &[Vec<usize>], tidy: bool) {
    for row in order {
        let mut end = 0.0;
        for item in row {
            items[*item].x = end + items[*item].width / 2.0;
            end += items[*item].width + GAP;
        }
    }
    for pass in 0..if tidy { 24 } else { 0 } {
        let down = pass % 2 == 0;
        let rows: Vec<usize> = if down { (0..order.len()).collect() } else { (0..order.len()).rev().collect() };
        for row in rows {
            let wanted: Vec<f64> = order[row]
                .iter()
                .map(|item| {
                    let item = &items[*item];
                    let near: Vec<usize> = match (down, pass < 20) {
                        (true, true) => item.above.clone(),
                        (false, true) => item.below.clone(),
                        _ => item.above.iter().chain(&item.below).copied().collect(),
                    };
                    match near.len() {
                        0 => item.x,
                        n => near.iter().map(|other| items[*other].x).sum::<f64>() / n as f64,
                    }
                })
                .collect();
            settle(items, &order[row], &wanted);
        }
    }
}

/// Lets each long edge run down in one line: all its passages want to be where they are in the mean, boxes stay.
fn straighten(items: &mut [Item], order: &[Vec<usize>], chains: &[Vec<usize>]) {
    let mut wanted: Vec<f64> = vec![0.0; items.len()];
    for _ in 0..8 {
        for (wish, item) in wanted.iter_mut().zip(items.iter()) {
            *wish = item.x;
        }
        for chain in chains.iter().filter(|chain| chain.len() > 3) {
            let passages = &chain[1..chain.len() - 1];
            let mean = passages.iter().map(|item| items[*item].x).sum::<f64>() / passages.len() as f64;
            passages.iter().for_each(|item| wanted[*item] = mean);
        }
        for row in order {
            let wishes: Vec<f64> = row.iter().map(|item| wanted[*item]).collect();
            settle(items, row, &wishes);
        }
    }
}

/// Moves the items of a row as near to where they want to be as their order and widths allow: least squares under
/// minimal distances, which is isotonic regression once the distances are taken off.
fn settle(items: &mut [Item], row: &[usize], wanted: &[f64]) {
    let mut offset = 0.0;
    let mut offsets = Vec::with_capacity(row.len());
    // Blocks that move together: sum of weighted wishes, sum of weights, members.
    let mut blocks: Vec<(f64, f64, usize)> = Vec::new();
    for (at, item) in row.iter().enumerate() {
        if at > 0 {
            offset += (items[row[at - 1]].width + items[*item].width) / 2.0 + GAP;
        }
        offsets.push(offset);
        let weight = items[*item].weight;
        blocks.push(((wanted[at] - offset) * weight, weight, 1));
        while let [.., before, last] = blocks[..]
            && before.0 / before.1 > last.0 / last.1
        {
            blocks.truncate(blocks.len() - 2);
            blocks.push((before.0 + last.0, before.1 + last.1, before.2 + last.2));
        }
    }
    let mut at = 0;
    for (sum, weight, members) in blocks {
        for _ in 0..members {
            items[row[at]].x = sum / weight + offsets[at];
            at += 1;
        }
    }
}

fn draw(
    sizes: &[(f64, f64)],
    edges: &[(usize, usize)],
    items: &[Item],
    order: &[Vec<usize>],
    chains: &[Vec<usize>],
) -> Placed {
    let heights: Vec<f64> = order
        .iter()
        .map(|row| row.iter().filter_map(|item| sizes.get(*item)).map(|size| size.1).fold(0.0, f64::max))
        .collect();
    let mut tops = Vec::with_capacity(heights.len());
    let mut bottom = 0.0;
    for height in &heights {
        tops.push(bottom);
        bottom += height + ROW_GAP;
    }
    let left = items.iter().map(|item| item.x - item.width / 2.0).fold(f64::INFINITY, f64::min);
    let left = if left.is_finite() { left } else { 0.0 };
    let right = items.iter().map(|item| item.x + item.width / 2.0).fold(left, f64::max);
    let corner = |item: usize| {
        let (width, height) = sizes[item];
        let row = items[item].row;
        (items[item].x - left - width / 2.0, tops[row] + (heights[row] - height) / 2.0)
    };
    // Edges leave and reach a box side by side, in the order of where they come from and go to.
    let mut leaving: Vec<Vec<usize>> = vec![Vec::new(); sizes.len()];
    let mut reaching: Vec<Vec<usize>> = vec![Vec::new(); sizes.len()];
    for (edge, (from, to)) in edges.iter().enumerate() {
        leaving[*from].push(edge);
        reaching[*to].push(edge);
    }
    let mut ports = vec![(0.0, 0.0); edges.len()];
    for (item, (width, _)) in sizes.iter().enumerate() {
        for (out, list) in [(true, &mut leaving[item]), (false, &mut reaching[item])] {
            let toward = |edge: &usize| {
                let chain = &chains[*edge];
                items[if out { chain[1] } else { chain[chain.len() - 2] }].x
            };
            list.sort_by(|a, b| toward(a).total_cmp(&toward(b)));
            let step = (width * 0.6 / list.len() as f64).min(14.0);
            for (at, edge) in list.iter().enumerate() {
                let x = items[item].x - left + (at as f64 - (list.len() as f64 - 1.0) / 2.0) * step;
                if out {
                    ports[*edge].0 = x;
                } else {
                    ports[*edge].1 = x;
                }
            }
        }
    }
    let routes = chains
        .iter()
        .enumerate()
        .map(|(edge, chain)| {
            let (from, to) = edges[edge];
            let mut route = vec![(ports[edge].0, corner(from).1 + sizes[from].1)];
            for item in &chain[1..chain.len() - 1] {
                let (x, row) = (items[*item].x - left, items[*item].row);
                route.push((x, tops[row]));
                route.push((x, tops[row] + heights[row]));
            }
            route.push((ports[edge].1, corner(to).1));
            route
        })
        .collect();
    Placed {
        corners: (0..sizes.len()).map(corner).collect(),
        routes,
        size: (right - left, (bottom - ROW_GAP).max(0.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_follow_the_edges_and_boxes_of_a_row_do_not_overlap() {
        let sizes = vec![(60.0, 20.0); 9];
        let edges = [(0, 1), (0, 2), (1, 3), (2, 3), (3, 4), (0, 4), (5, 4), (6, 7)];
        let placed = place(&sizes, &edges);
        for (edge, (from, to)) in edges.iter().enumerate() {
            assert!(placed.corners[*from].1 + 20.0 < placed.corners[*to].1, "{from} is above {to}");
            let route = &placed.routes[edge];
            assert_eq!(route.len() % 2, 0);
            assert!(route.windows(2).all(|pair| pair[0].1 <= pair[1].1), "edges only go down");
        }
        for a in 0..sizes.len() {
            for b in 0..a {
                let ((ax, ay), (bx, by)) = (placed.corners[a], placed.corners[b]);
                assert!(ay != by || (ax - bx).abs() >= 60.0, "{a} and {b} overlap");
            }
        }
        assert_eq!(placed.corners[5].1, placed.corners[3].1, "a source lies just above what needs it");
    }

    #[test]
    fn what_can_be_drawn_without_crossings_is() {
        // 0 and 1 each have two children, listed so that the first order crosses.
        let sizes = vec![(10.0, 10.0); 6];
        let placed = place(&sizes, &[(0, 3), (0, 5), (1, 2), (1, 4)]);
        let x = |item: usize| placed.corners[item].0;
        assert_eq!(x(0) < x(1), x(3).max(x(5)) < x(2).min(x(4)));
    }

    #[test]
    fn settling_keeps_order_and_distance_and_otherwise_grants_wishes() {
        let item = |width: f64| Item { width, row: 0, x: 0.0, above: vec![], below: vec![], weight: 1.0 };
        let mut items = vec![item(10.0), item(10.0), item(10.0)];
        settle(&mut items, &[0, 1, 2], &[0.0, 0.0, 500.0]);
        // The first two share the shortage of 10 + GAP.
        let half = (10.0 + GAP) / 2.0;
        assert_eq!(items.iter().map(|item| item.x).collect::<Vec<_>>(), [-half, half, 500.0]);
    }
}
