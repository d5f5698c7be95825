//! Pictures of graphs: Mermaid, Graphviz DOT, JSON and SVG.
//!
//! A [`Picture`] is any DAG of labelled nodes: the stages of a pipeline, with or without artifacts between them, or a
//! lineage document. The SVG is drawn in colours that can be read on light
//! and dark pages.

mod place;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Serialize;
use serde_json::json;

use crate::graph::Dag;
use crate::spec::{Action, InputRef, Spec};

/// A node of a picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Unique in its picture.
    pub id: String,
    /// What is written on it; may have several lines.
    pub label: String,
    /// What it is. Drawn differently: `stage`, `effect` (rounded boxes), `artifact`, `source`, `target` (plain boxes). Others look
    /// like `artifact`.
    pub class: String,
}

/// An edge of a picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Edge {
    /// The node that comes before.
    pub from: String,
    /// The node that comes after.
    pub to: String,
    /// Order only, no data: drawn dashed.
    pub order_only: bool,
}

/// A graph to draw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Picture {
    /// Nodes in order.
    pub nodes: Vec<Node>,
    /// Edges between nodes that are there; others are not drawn.
    pub edges: Vec<Edge>,
}

impl Picture {
    /// Pictures a pipeline: its stages, and their artifacts and sources if wanted.
    pub fn of(spec: &Spec, dag: &Dag, artifacts: bool) -> Self {
        let mut picture = Self::default();
        for stage in &spec.stages {
            let (label, class) = match &stage.action {
                Action::Builtin { kind } if kind.name != stage.base => {
                    (format!("{}\n{}", stage.name, kind.name), "stage")
                }
                _ => (stage.name.clone(), "stage"),
            };
            // A built-in stage without outputs acts on something outside.
            let effect = stage.outputs.is_empty() && matches!(stage.action, Action::Builtin { .. });
            let class = if effect { "effect" } else { class };
            picture.nodes.push(Node { id: stage.name.clone(), label, class: class.to_owned() });
        }
        let name = |stage: usize| spec.stages[stage].name.clone();
        if !artifacts {
            for (from, to, order_only) in dag.edges() {
                picture.edges.push(Edge { from: name(from), to: name(to), order_only });
            }
            return picture;
        }
        let mut sources: BTreeSet<String> = BTreeSet::new();
        let path_of = |(stage, slot): (usize, usize)| {
            let (_, output) = spec.stages[stage].outputs.get_index(slot).expect("the graph numbers slots of this spec");
            format!("{}{}", output.path, if output.directory { "/" } else { "" })
        };
        for (index, stage) in spec.stages.iter().enumerate() {
            for slot in 0..stage.outputs.len() {
                let path = path_of((index, slot));
                picture.edges.push(Edge { from: stage.name.clone(), to: path.clone(), order_only: false });
                picture.nodes.push(Node { id: path.clone(), label: path, class: "artifact".to_owned() });
            }
        }
        for stage in &spec.stages {
            let mut drawn = BTreeSet::new();
            for reference in stage.inputs.values().flat_map(|input| &input.refs) {
                let mut written: Vec<String> = dag.written(reference).into_iter().map(path_of).collect();
                if written.is_empty() {
                    let path = match reference {
                        InputRef::Directory(path) => format!("{path}/"),
                        InputRef::Lineage(path) => format!("lineage:{path}"),
                        InputRef::File(path) | InputRef::Glob(path) => path.to_string(),
                    };
                    if sources.insert(path.clone()) {
                        picture.nodes.push(Node { id: path.clone(), label: path.clone(), class: "source".to_owned() });
                    }
                    written.push(path);
                }
                for path in written {
                    if drawn.insert(path.clone()) {
                        picture.edges.push(Edge { from: path, to: stage.name.clone(), order_only: false });
                    }
                }
            }
        }
        for (from, to, order_only) in dag.edges() {
            if order_only {
                picture.edges.push(Edge { from: name(from), to: name(to), order_only });
            }
        }
        picture
    }

    /// Returns each edge as positions of its nodes.
    fn links(&self) -> Vec<(usize, usize, bool)> {
        let index: BTreeMap<&str, usize> =
            self.nodes.iter().enumerate().map(|(i, node)| (node.id.as_str(), i)).collect();
        let at = |id: &str| index.get(id).copied();
        let mut links: Vec<(usize, usize, bool)> = self
            .edges
            .iter()
            .filter_map(|edge| Some((at(&edge.from)?, at(&edge.to)?, edge.order_only)))
            .filter(|(from, to, _)| from != to)
            .collect();
        links.sort_unstable();
        links.dedup_by_key(|link| (link.0, link.1));
        links
    }

    /// Returns `{"nodes":[{"id","label","class"}],"edges":[[from,to]]}`.
    pub fn json(&self) -> serde_json::Value {
        let edges: Vec<_> = self.edges.iter().map(|edge| json!([edge.from, edge.to])).collect();
        json!({"nodes": self.nodes, "edges": edges})
    }

    /// Returns a Mermaid flow chart, as GitHub and GitLab render it in a ```` ```mermaid ```` block.
    pub fn mermaid(&self) -> String {
        let mut out = String::from("flowchart TD\n");
        for (i, node) in self.nodes.iter().enumerate() {
            let label =
                node.label.replace('&', "&amp;").replace('"', "#quot;").replace('<', "&lt;").replace('>', "&gt;");
            let label = label.replace('\n', "<br/>");
            let (open, close) = match node.class.as_str() {
                "stage" => ("(\"", "\")"),
                "effect" => ("([\"", "\"])"),
                "source" => ("[(\"", "\")]"),
                _ => ("[\"", "\"]"),
            };
            writeln!(out, "    n{i}{open}{label}{close}").expect("a string takes all");
        }
        for (from, to, order_only) in self.links() {
            let arrow = if order_only { "-.->" } else { "-->" };
            writeln!(out, "    n{from} {arrow} n{to}").expect("a string takes all");
        }
        for look in LOOKS {
            let of_class: Vec<String> = self
                .nodes
                .iter()
                .enumerate()
                .filter(|(_, node)| look_of(&node.class).class == look.class)
                .map(|(i, _)| format!("n{i}"))
                .collect();
            if !of_class.is_empty() {
                writeln!(out, "    classDef {} fill:{},stroke:{},color:#1c2733", look.class, look.fill, look.line)
                    .expect("a string takes all");
                writeln!(out, "    class {} {}", of_class.join(","), look.class).expect("a string takes all");
            }
        }
        out
    }

    /// Returns a Graphviz document.
    pub fn dot(&self) -> String {
        let quote =
            |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"));
        let mut out = String::from(
            "digraph pipeline {\n    rankdir=TB;\n    node [shape=box, style=\"filled\", fontname=\"sans-serif\", fontsize=11];\n",
        );
        for node in &self.nodes {
            let look = look_of(&node.class);
            let style = if look.round { "rounded,filled" } else { "filled" };
            writeln!(
                out,
                "    {} [label={}, class={}, style={}, fillcolor={}, color={}];",
                quote(&node.id),
                quote(&node.label),
                quote(&node.class),
                quote(style),
                quote(look.fill),
                quote(look.line)
            )
            .expect("a string takes all");
        }
        for (from, to, order_only) in self.links() {
            let style = if order_only { " [style=dashed]" } else { "" };
            writeln!(out, "    {} -> {}{style};", quote(&self.nodes[from].id), quote(&self.nodes[to].id))
                .expect("a string takes all");
        }
        out.push_str("}\n");
        out
    }

    /// Returns where a page draws what: `{"size":[w,h],"nodes":[{"id","label","class","box":[x,y,w,h]}],
    /// "edges":[{"from","to","route":[[x,y],…]}]}`, in pixels at a font of 13. Between an even and the next odd point a
    /// route bends, from an odd to the next even one it goes straight down.
    pub fn layout(&self) -> serde_json::Value {
        let links = self.links();
        let sizes: Vec<(f64, f64)> =
            self.nodes.iter().map(|node| (width_of(&node.label), height_of(&node.label))).collect();
        let edges: Vec<(usize, usize)> = links.iter().map(|(from, to, _)| (*from, *to)).collect();
        let placed = place::place(&sizes, &edges);
        let tenth = |x: f64| (x * 10.0).round() / 10.0;
        let nodes = self.nodes.iter().zip(placed.corners.iter().zip(&sizes)).map(|(node, ((x, y), (wide, high)))| {
            let place = [*x, *y, *wide, *high].map(tenth);
            json!({"id": node.id, "label": node.label, "class": node.class, "box": place})
        });
        let edges = links.iter().zip(&placed.routes).map(|((from, to, _), route)| {
            let route: Vec<[f64; 2]> = route.iter().map(|(x, y)| [tenth(*x), tenth(*y)]).collect();
            json!({"from": self.nodes[*from].id, "to": self.nodes[*to].id, "route": route})
        });
        json!({
            "size": [tenth(placed.size.0), tenth(placed.size.1)],
            "nodes": nodes.collect::<Vec<_>>(),
            "edges": edges.collect::<Vec<_>>(),
        })
    }

    /// Returns a stand-alone SVG document, which can also be put inside an HTML page.
    pub fn svg(&self) -> String {
        let links = self.links();
        let sizes: Vec<(f64, f64)> =
            self.nodes.iter().map(|node| (width_of(&node.label), height_of(&node.label))).collect();
        let edges: Vec<(usize, usize)> = links.iter().map(|(from, to, _)| (*from, *to)).collect();
        let placed = place::place(&sizes, &edges);
        let (width, height) = (placed.size.0 + 2.0 * MARGIN, placed.size.1 + 2.0 * MARGIN);
        let mut out = head(width, height);
        for (route, (_, _, order_only)) in placed.routes.iter().zip(&links) {
            edge(&mut out, route, *order_only);
        }
        for ((node, corner), size) in self.nodes.iter().zip(&placed.corners).zip(&sizes) {
            node_box(&mut out, node, *corner, *size);
        }
        out.push_str("</svg>\n");
        out
    }
}

/// Space around the picture.
const MARGIN: f64 = 12.0;

/// Font size in pixels, and the mean width of a letter in it.
const FONT: u8 = 13;
const LINE: f64 = 16.0;
const LETTER: f64 = 7.1;
const PADDING: f64 = 22.0;

struct Look {
    class: &'static str,
    fill: &'static str,
    line: &'static str,
    round: bool,
}

const LOOKS: [Look; 5] = [
    Look { class: "stage", fill: "#dcebfb", line: "#2f6fb3", round: true },
    Look { class: "effect", fill: "#fde6d2", line: "#c0651a", round: true },
    Look { class: "source", fill: "#e5f3e1", line: "#4a8a3c", round: false },
    Look { class: "artifact", fill: "#f6f7f9", line: "#8a96a3", round: false },
    Look { class: "target", fill: "#fff1c2", line: "#b07d00", round: false },
];

fn look_of(class: &str) -> &'static Look {
    LOOKS.iter().find(|look| look.class == class).unwrap_or(&LOOKS[3])
}

fn width_of(label: &str) -> f64 {
    label.lines().map(|line| line.chars().count()).max().unwrap_or(1) as f64 * LETTER + PADDING
}

fn height_of(label: &str) -> f64 {
    label.lines().count().max(1) as f64 * LINE + 13.0
}

fn head(width: f64, height: f64) -> String {
    let mut style = String::new();
    for look in LOOKS {
        write!(style, ".lw-graph .{} rect{{fill:{};stroke:{}}}", look.class, look.fill, look.line)
            .expect("a string takes all");
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"lw-graph\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\">\n<style>\
         .lw-graph text{{font:{FONT}px system-ui,'DejaVu Sans',Helvetica,sans-serif;fill:#1c2733;text-anchor:middle}}\
         .lw-graph text.minor{{font-size:11px;fill:#5a6878}}\
         .lw-graph rect{{stroke-width:1.2}}\
         .lw-graph path{{fill:none;stroke:#7b8794;stroke-width:1.2}}.lw-graph path.order{{stroke-dasharray:5 4}}\
         .lw-graph marker path{{fill:#7b8794;stroke:none}}{style}</style>\n\
         <defs><marker id=\"lw-arrow\" viewBox=\"0 0 8 8\" refX=\"7.5\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" \
         orient=\"auto\"><path d=\"M0 0.8L8 4L0 7.2z\"/></marker></defs>\n"
    )
}

fn node_box(out: &mut String, node: &Node, (x, y): (f64, f64), (width, height): (f64, f64)) {
    let (x, y) = (x + MARGIN, y + MARGIN);
    let look = look_of(&node.class);
    let round = if look.round { 7 } else { 1 };
    let (class, id) = (look.class, escape(&node.id));
    write!(
        out,
        "<g class=\"{class}\" data-id=\"{id}\"><title>{id}</title>\
         <rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"{round}\"/>"
    )
    .expect("a string takes all");
    let lines: Vec<&str> = node.label.lines().collect();
    for (i, line) in lines.iter().enumerate() {
        let middle = y + height / 2.0 + (i as f64 - (lines.len() as f64 - 1.0) / 2.0) * LINE;
        let minor = if i > 0 { " class=\"minor\"" } else { "" };
        let (x, middle, line) = (x + width / 2.0, middle + f64::from(FONT) * 0.35, escape(line));
        write!(out, "<text{minor} x=\"{x:.1}\" y=\"{middle:.1}\">{line}</text>").expect("a string takes all");
    }
    out.push_str("</g>\n");
}

fn edge(out: &mut String, route: &[(f64, f64)], order_only: bool) {
    let Some((x, y)) = route.first() else { return };
    let mut d = format!("M{:.1} {:.1}", x + MARGIN, y + MARGIN);
    for (at, pair) in route.windows(2).enumerate() {
        let ((ax, ay), (bx, by)) = (pair[0], pair[1]);
        if at % 2 == 0 {
            let middle = f64::midpoint(ay, by) + MARGIN;
            write!(
                d,
                "C{:.1} {middle:.1} {:.1} {middle:.1} {:.1} {:.1}",
                ax + MARGIN,
                bx + MARGIN,
                bx + MARGIN,
                by + MARGIN
            )
            .expect("a string takes all");
        } else {
            write!(d, "L{:.1} {:.1}", bx + MARGIN, by + MARGIN).expect("a string takes all");
        }
    }
    let dash = if order_only { " class=\"order\"" } else { "" };
    writeln!(out, "<path{dash} d=\"{d}\" marker-end=\"url(#lw-arrow)\"/>").expect("a string takes all");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: &str, class: &str) -> Node {
        Node { id: id.to_owned(), label: id.to_owned(), class: class.to_owned() }
    }

    fn edge(from: &str, to: &str) -> Edge {
        Edge { from: from.to_owned(), to: to.to_owned(), order_only: false }
    }

    fn small() -> Picture {
        Picture {
            nodes: vec![node("a \"b\" <c>", "source"), node("two", "stage"), node("d/", "artifact")],
            edges: vec![edge("a \"b\" <c>", "two"), edge("two", "d/"), edge("two", "nowhere")],
        }
    }

    #[test]
    fn mermaid_escapes_labels_and_classes_nodes() {
        insta::assert_snapshot!(small().mermaid(), @r##"
        flowchart TD
            n0[("a #quot;b#quot; &lt;c&gt;")]
            n1("two")
            n2["d/"]
            n0 --> n1
            n1 --> n2
            classDef stage fill:#dcebfb,stroke:#2f6fb3,color:#1c2733
            class n1 stage
            classDef source fill:#e5f3e1,stroke:#4a8a3c,color:#1c2733
            class n0 source
            classDef artifact fill:#f6f7f9,stroke:#8a96a3,color:#1c2733
            class n2 artifact
        "##);
    }

    #[test]
    fn a_layout_has_every_box_and_route_within_its_size() {
        let layout = small().layout();
        let (wide, high) = (layout["size"][0].as_f64().unwrap(), layout["size"][1].as_f64().unwrap());
        assert_eq!(layout["nodes"].as_array().unwrap().len(), 3);
        for node in layout["nodes"].as_array().unwrap() {
            let place: Vec<f64> = node["box"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
            assert!(place[0] >= 0.0 && place[0] + place[2] <= wide + 0.2, "{node}");
            assert!(place[1] >= 0.0 && place[1] + place[3] <= high + 0.2, "{node}");
        }
        assert_eq!(layout["edges"].as_array().unwrap().len(), 2, "an edge to nowhere is not drawn");
        assert_eq!(layout["edges"][0]["from"], "a \"b\" <c>");
    }

    #[test]
    fn dot_is_read_by_a_dot_parser() {
        let dot = small().dot();
        assert!(dot.contains(r#""a \"b\" <c>" -> "two";"#));
        let parsed = layout::gv::DotParser::new(&dot).process();
        assert!(parsed.is_ok(), "{parsed:?}");
    }

    #[test]
    fn json_has_every_node_and_edge() {
        let json = small().json();
        assert_eq!(json["nodes"][1], json!({"id": "two", "label": "two", "class": "stage"}));
        assert_eq!(json["edges"][1], json!(["two", "d/"]));
    }

    #[test]
    fn svg_draws_every_node_and_edge_once_at_any_size() {
        for count in [3, 500] {
            let mut picture = small();
            for i in 3..count {
                picture.nodes.push(node(&format!("n{i}"), "stage"));
                picture.edges.push(edge("two", &format!("n{i}")));
            }
            let svg = picture.svg();
            assert_eq!(svg.matches("<rect ").count(), count);
            assert_eq!(svg.matches("marker-end").count(), count - 1);
            assert!(svg.contains("a &quot;b&quot; &lt;c&gt;"));
            assert_eq!(svg, picture.svg(), "the same picture gives the same bytes");
        }
    }
}
