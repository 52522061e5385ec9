//! The charts of the page, as SVG.

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use super::confirmation::Confirmation;
use super::report::Cost;
use super::variants::{Build, Variant};

const WIDTH: u32 = 960;
const BAR: u32 = 34;
const TITLE_WIDTH: u32 = 330;
const OURS: RGBColor = RGBColor(0x1f, 0x8a, 0x5b);
const EARLIER: RGBColor = RGBColor(0x9c, 0xc9, 0xb3);
const OTHERS: RGBColor = RGBColor(0x5b, 0x7f, 0xa6);
const BASE: RGBColor = RGBColor(0xa8, 0xb0, 0xb8);
const INK: RGBColor = RGBColor(0x24, 0x29, 0x2e);
const GRID: RGBColor = RGBColor(0xe1, 0xe4, 0xe8);
const FONT: &str = "sans-serif";

/// Bars of CPU per request, each with its quartiles.
///
/// # Errors
/// Where the chart cannot be drawn.
pub fn costs(costs: &[Cost]) -> Result<String> {
    let height = costs.len() as u32 * BAR + 50;
    drawn(height, |root| {
        let most = costs.iter().map(|cost| cost.cpu_us.q3).fold(0.0, f64::max) * 1.12;
        let mut chart = ChartBuilder::on(root)
            .margin_right(60)
            .margin_top(6)
            .x_label_area_size(38)
            .y_label_area_size(TITLE_WIDTH)
            .build_cartesian_2d(0.0..most.max(1.0), 0.0..costs.len() as f64)?;
        let mesh_text = (FONT, 13).into_font().color(&INK);
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .y_labels(0)
            .bold_line_style(GRID)
            .light_line_style(WHITE)
            .axis_style(GRID)
            .x_desc("µs of CPU per request (median, quartiles)")
            .label_style(mesh_text)
            .draw()?;
        for (nth, cost) in costs.iter().enumerate() {
            let middle = (costs.len() - nth) as f64 - 0.5;
            let spread = &cost.cpu_us;
            let colour = match (cost.variant, cost.build) {
                (Variant::None | Variant::Stripping | Variant::Empty | Variant::Calls, _) => BASE,
                (Variant::Weighted | Variant::Stateful | Variant::Lua, _) => OTHERS,
                (_, Build::Now) => OURS,
                (_, Build::Before) => EARLIER,
            };
            let bar = Rectangle::new([(0.0, middle - 0.32), (spread.median, middle + 0.32)], colour.filled());
            chart.draw_series([bar])?;
            for ends in [
                [(spread.q1, middle), (spread.q3, middle)],
                [(spread.q1, middle - 0.14), (spread.q1, middle + 0.14)],
                [(spread.q3, middle - 0.14), (spread.q3, middle + 0.14)],
            ] {
                chart.draw_series([PathElement::new(ends, INK.stroke_width(1))])?;
            }
            let (x, y) = chart.backend_coord(&(spread.q3.max(spread.median), middle));
            text(root, &format!("{:.1}", spread.median), (x + 8, y - 7), 14)?;
            text(root, &cost.title, (6, y - 7), 14)?;
        }
        Ok(())
    })
}

/// Time to confirmation by members, on logarithmic scales.
///
/// # Errors
/// Where the chart cannot be drawn.
pub fn confirmation(all: &[Confirmation]) -> Result<String> {
    drawn(320, |root| {
        let members = |of: &Confirmation| f64::from(of.members.max(1));
        let most = all.iter().map(|of| of.command_ms.p99).fold(1.0, f64::max) * 1.6;
        let least = all.iter().map(|of| of.sidecar_ms.p50).fold(f64::MAX, f64::min).max(0.01) * 0.6;
        let widest = all.iter().map(members).fold(2.0, f64::max) * 1.5;
        let mut chart = ChartBuilder::on(root)
            .margin(14)
            .x_label_area_size(40)
            .y_label_area_size(64)
            .build_cartesian_2d((0.8..widest).log_scale(), (least..most.max(least * 10.0)).log_scale())?;
        chart
            .configure_mesh()
            .bold_line_style(GRID)
            .light_line_style(WHITE)
            .axis_style(GRID)
            .x_desc("members")
            .y_desc("ms")
            .x_label_formatter(&|x| format!("{x:.0}"))
            .y_label_formatter(&|y| format!("{y:.0}"))
            .label_style((FONT, 13).into_font().color(&INK))
            .draw()?;
        type Of = fn(&Confirmation) -> f64;
        let series: [(&str, Of, RGBColor, u32); 4] = [
            ("command, p99", |of| of.command_ms.p99, OURS, 2),
            ("command, p50", |of| of.command_ms.p50, OURS, 1),
            ("sidecar, p99", |of| of.sidecar_ms.p99, OTHERS, 2),
            ("sidecar, p50", |of| of.sidecar_ms.p50, OTHERS, 1),
        ];
        for (title, of, colour, width) in series {
            let points: Vec<_> = all.iter().map(|found| (members(found), of(found))).collect();
            chart
                .draw_series(LineSeries::new(points.clone(), colour.stroke_width(width)))?
                .label(title)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], colour.stroke_width(width)));
            chart.draw_series(points.into_iter().map(|point| Circle::new(point, 2 + width as i32, colour.filled())))?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .border_style(GRID)
            .label_font((FONT, 13).into_font().color(&INK))
            .draw()?;
        Ok(())
    })
}

type Root<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn drawn(height: u32, draw: impl FnOnce(&Root<'_>) -> Result<(), anyhow::Error>) -> Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        root.fill(&WHITE).map_err(|error| anyhow!("{error}"))?;
        draw(&root)?;
        root.present().map_err(|error| anyhow!("{error}"))?;
    }
    Ok(svg)
}

fn text(root: &Root<'_>, text: &str, at: (i32, i32), size: u32) -> Result<()> {
    let style = (FONT, size).into_font().color(&INK);
    root.draw(&Text::new(text.to_owned(), at, style)).map_err(|error| anyhow!("{error}"))
}
