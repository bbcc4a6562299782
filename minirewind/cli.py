"""The command line: a thin shell over the library."""

import argparse
import dataclasses
import difflib
import itertools
import json
import os
import statistics
import sys
import time
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from . import data as datasets
from . import export, files, models, nn, prune, sparse, study, train
from .errors import Error, choose
from .train import Recipe

DESCRIPTION = "Retrain pruned networks three ways: fine-tuning, weight rewinding, learning-rate rewinding."
DEFAULT_NETWORKS = {"digits": "resnet8-8", "mnist": "lenet_300_100", "fashion_mnist": "lenet_300_100"}
OTHER_NETWORK = "resnet20"
WORKERS = {"gpu": 8, "emulated": 1}
LEARN = ("status", "open", "hint", "check", "solution", "reset")
EXPORTS = {"sparse": "network.npz", "onnx": "network.onnx", "safetensors": "network.safetensors"}


def compare(options) -> None:
    """Run the comparison, print the table, draw the figure."""
    from tqdm import tqdm

    from . import report

    chosen = {name: getattr(options, name) for name in study.AXES if getattr(options, name) is not None}
    wanted = study.Study(options.network or network_for(options.dataset), options.dataset, recipe(options),
                         seeds=options.seeds, data_dir=options.data_dir, **chosen)
    first = {"shown": False}

    def early_table(rows) -> None:
        mine = [row for row in rows if row.seed == wanted.seed_list[0] and row.protocol == "one_shot"]
        if not first["shown"] and len(mine) >= study.one_shot_runs(wanted) > 0 and len(wanted.seed_list) > 1:
            first["shown"] = True
            tqdm.write(f"\nThe first seed, one-shot:\n{report.table(mine)}\n", file=sys.stdout)

    folder = Path(options.out)
    workers = options.workers or WORKERS.get(options.device) or os.cpu_count() or 1
    rows = study.run(wanted, folder, workers, options.device, on_rows=early_table)
    print(report.table(rows))
    tell_emptied(f"{name} (in {count} runs)" for name, count in study.emptied(folder).items())
    report.write(rows, folder)
    print(f"\n{folder / 'results.csv'}  every run\n{folder / 'comparison.png'}  the figure (and .svg)")


def draw(options) -> None:
    """Print the table and draw the figure of a folder again, from its results.csv."""
    from . import report

    rows = study.read_results(Path(options.folder) / "results.csv")
    if not rows:
        raise Error(f"{options.folder}/results.csv has no rows yet; let compare finish a run first")
    print(report.table(rows))
    report.write(rows, Path(options.folder))


def prune_network(options) -> None:
    """Prune by the paper's algorithm, round by round, and save the network."""
    def told(summary: dict, inside: bool) -> None:
        note = "" if inside else f"   more than {options.max_drop:g} points below the dense network: not kept"
        print(f"{1 / summary['density']:7.2f}x  validation {summary['validation_accuracy']:6.2f} %{note}", flush=True)

    wanted = study.Study(options.network or network_for(options.dataset), options.dataset, recipe(options),
                         seeds=(options.seed,), data_dir=options.data_dir)
    _, result = study.prune_to_target(wanted, options.out, density=options.density, max_drop=options.max_drop,
                                      device=options.device, on_round=told)
    print(f"kept {result['density']:.2%} of the prunable weights ({1 / result['density']:.2f}x): test accuracy "
          f"{result['accuracy']:.2f} %, the dense network's {result['dense_accuracy']:.2f} %")
    if options.density is not None and result["density"] > 1.01 * options.density:
        print(f"the target of {options.density:g} was not reached: fewer weights than layers would be left, "
              f"or more accuracy lost than --max-drop allows")
    tell_emptied([name for name, density in result["layer_densities"].items() if density == 0])
    print(f"{Path(options.out) / 'state.npz'}  the network")


def tell_emptied(names: Iterable[str]) -> None:
    """A layer without weights is no mistake, but worth knowing."""
    if names := list(names):
        print(f"left without any weight: {', '.join(names)}")


def export_network(options) -> None:
    """Write the network of a finished run as a small file (sparse), as ONNX or as safetensors."""
    choose("format", options.to, EXPORTS)
    model = export.read_run(options.run)
    out = Path(options.out or Path(options.run) / EXPORTS[options.to])
    origin, vectors = model.origin or {}, nn.pack(model)
    images = np.random.default_rng(0).standard_normal((128, *origin["input_shape"])).astype(np.float32)
    program = sparse.compile(model, images[:1])
    programs: dict[str, Any] = {"dense": sparse.compile(models.build(**origin), images[:1]), "pruned": program}
    note = ""
    if options.to == "sparse":
        size = sparse.save(out, model)
    else:
        content = export.onnx(model, images[:1]) if options.to == "onnx" else export.safetensors(model)
        size = files.write(out, content)
        session = export.run_onnx(content) if options.to == "onnx" else None
        if session is not None:
            programs["by onnxruntime"] = session
            note = f"; onnxruntime agrees to {export.difference(session(images), program(images)):.0e}"
    dense = sum(values.nbytes for values in model.state_dict().values())
    print(f"density {prune.density(vectors.mask, vectors.prunable):.2%}: {size:,} bytes, the dense network "
          f"{dense:,} ({dense / size:.1f}x){note}")
    for name, run in programs.items():
        one, many = milliseconds(run, images[:1]), milliseconds(run, images)
        print(f"{name:16}{one:9.3f} ms for one image {many:9.2f} ms for {len(images)}")
    print(out)


def milliseconds(run, images) -> float:
    """The median time of a call, of as many as fit into a quarter of a second."""
    run(images)
    times: list[float] = []
    end = time.perf_counter() + 0.25
    while not times or (time.perf_counter() < end and len(times) < 200):
        start = time.perf_counter()
        run(images)
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def fetch_data(options) -> None:
    """Download a data set."""
    from . import fetch

    print(fetch.fetch(options.name, options.data_dir))


def learn_about(options) -> None:
    """The lessons: your progress, hints, solutions."""
    from .learn import exercise

    def named() -> str:
        if options.name is None:
            raise Error(f"minirewind learn {options.action}: which one? e.g. {next(iter(exercise.exercises))}")
        return options.name

    exercise.load()
    if options.action == "status" and options.json:
        print(json.dumps(exercise.states(), indent=1))
    elif options.action == "status":
        exercise.status(options.name or "")
    elif options.action == "hint":
        exercise.hint(named())
    elif options.action == "solution":
        exercise.solution(named(), give_up=options.give_up)
    elif options.action == "check":
        exercise.check(named())
    elif options.action == "reset":
        exercise.reset(named())
    elif options.action == "open":
        exercise.open(options.name)


def recipe(options) -> Recipe | None:
    """The data set's own recipe with the changes that --recipe.steps and its like ask for; None without any."""
    changes = {name: value for name, value in vars(options.recipe).items() if value is not None}
    if not changes:
        return None
    return dataclasses.replace(train.default_recipe(datasets.load(options.dataset, options.data_dir)), **changes)


def network_for(dataset: str) -> str:
    """The network of a data set if none is asked for."""
    return DEFAULT_NETWORKS.get(dataset, OTHER_NETWORK)


# ---------------------------------------------------------------------------------------------------------- the parser


def parser():
    """All verbs and their options."""
    import jsonargparse

    class Parser(jsonargparse.ArgumentParser):
        """Says what is wrong in a line or two, without the whole usage."""

        def error(self, message, ex=None):
            raise Error(_brief(message, self))

    class Help(jsonargparse.DefaultHelpFormatter):
        """The default behind each option that has one, and no types."""

        def _get_help_string(self, action):
            return action.help if action.default in (None, argparse.SUPPRESS) else f"{action.help} (%(default)s)"

    whole = Parser(prog="minirewind", description=DESCRIPTION, parser_mode="toml")
    verbs = whole.add_subcommands(dest="verb", required=True)

    def verb(name: str, function) -> Parser:
        new = Parser(description=function.__doc__, parser_mode="toml", formatter_class=Help)
        verbs.add_subcommand(name, new, help=function.__doc__)
        return new

    def common(new: Parser, out: str) -> None:
        new.add_argument("--out", default=out, help="the folder that holds all results")
        new.add_argument("--dataset", default="digits", help="digits, cifar10, cifar100, mnist or fashion_mnist")
        new.add_argument("--network", help="resnet20, resnet8-8 (depth-width), vgg16, lenet_300_100, "
                                                           "or package.module:function")
        new.add_argument("--data-dir", help="where the data sets lie (or MINIREWIND_DATA)")
        new.add_argument("--device", default="cpu", help="cpu, gpu; slow ones to learn from: reference, emulated")
        for name, kind in typing.get_type_hints(Recipe).items():
            new.add_argument(f"--recipe.{name}", type=kind, help=f"how to train: {name.replace('_', ' ')}")

    new = verb("compare", compare)
    common(new, "results/compare")
    new.add_argument("--config", action="config", help="a TOML file with these options")
    new.add_argument("--seeds", type=int, default=3, help="how many dense networks to start from")
    new.add_argument("--workers", type=int, help="processes side by side, as many as cores; on a GPU runs in one, 8")
    kinds = {"rounds": int, "densities": float, "retrain_fractions": float}
    helps = {"protocols": "any of " + " ".join(study.PROTOCOLS), "techniques": "any of " + " ".join(study.TECHNIQUES),
             "pruning": "any of " + " ".join(study.PRUNING), "rounds": "compressions: round i keeps 0.8**i",
             "densities": "further one-shot densities", "retrain_fractions": "t/T, shares of the training to run again"}
    for name in study.AXES:
        new.add_argument("--" + name.replace("_", "-"), type=kinds.get(name, str), nargs="+", help=helps[name])

    new = verb("prune", prune_network)
    common(new, "results/prune")
    new.add_argument("--density", type=float, help="the kept share to end at, e.g. 0.1")
    new.add_argument("--max-drop", type=float, help="end before losing more points of validation accuracy")
    new.add_argument("--seed", type=int, default=0, help="the seed of the initial weights and the data order")

    new = verb("report", draw)
    new.add_argument("folder", help="a folder that compare has written")

    new = verb("fetch", fetch_data)
    new.add_argument("name", help="cifar10, cifar100, mnist or fashion_mnist")
    new.add_argument("--data-dir", type=str, help="where to put it (or MINIREWIND_DATA)")

    new = verb("learn", learn_about)
    new.add_argument("action", nargs="?", default="status", choices=LEARN, help="one of " + ", ".join(LEARN))
    new.add_argument("name", nargs="?", type=str, help="the exercise; for status and open, the lesson")
    new.add_argument("--json", action="store_true", help="status for a script")
    new.add_argument("--give-up", action="store_true", help="show the solution of an exercise that is not solved")

    new = verb("export", export_network)
    new.add_argument("run", help="a folder that prune has written, or runs/NAME in one of compare's")
    new.add_argument("--to", default="sparse", help="any of " + " ".join(EXPORTS))
    new.add_argument("--out", type=str, help="the file to write (RUN/network.npz, .onnx or .safetensors)")
    return whole


VERBS = {"compare": compare, "prune": prune_network, "report": draw, "fetch": fetch_data, "export": export_network,
         "learn": learn_about}


def _brief(message: str, parser: argparse.ArgumentParser) -> str:
    """The parser's message, with the nearest known option where one is unknown."""
    known = [option for action in parser._actions for option in action.option_strings]
    for word in message.split():
        near = difflib.get_close_matches(word, known, n=1)
        if word.startswith("--") and word not in known and near:
            return f"{message}; did you mean {near[0]}?"
    return message


def _with_config(arguments: list[str]) -> list[str]:
    """`compare study.toml` as the parser wants it, `compare --config study.toml`; the file must be there."""
    if len(arguments) > 1 and arguments[0] == "compare" and arguments[1].endswith(".toml"):
        arguments = [arguments[0], "--config", *arguments[1:]]
    for option, path in itertools.pairwise(arguments):
        if option == "--config" and not Path(path).is_file():
            raise Error(f"the study file {path} does not exist; expected a TOML file with the options of compare")
    return arguments


def main(arguments: list[str] | None = None) -> None:
    """The command `minirewind`: a user's mistake is one message and exit code 2."""
    try:
        options = parser().parse_args(_with_config(sys.argv[1:] if arguments is None else arguments))
        VERBS[options.verb](options[options.verb])
    except Error as mistake:
        print(f"minirewind: {mistake}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as reason:
        print(f"minirewind: {reason.filename or 'a file'}: {reason.strerror or reason}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\nminirewind: stopped; what is done is kept, and the same command continues it", file=sys.stderr)
        sys.exit(130)
