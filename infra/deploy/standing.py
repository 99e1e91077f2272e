"""What a plain `chalice deploy` needs to find: bucket, log groups, published layers, each app's config."""

from collections.abc import Callable
from dataclasses import replace

from infra import aws
from infra.deploy import apps, chalice_run, deployment, execute
from infra.deploy.plan import DeployApp, GrantLogs, KeyApi, Subscribe
from infra.deploy.resources import APPS, FUNCTION_LAYERS


def stand(
    stage: str,
    target: aws.Target,
    settings: deployment.Settings,
    progress: Callable[[str], None] = lambda _: None,
) -> None:
    """Everything that `marquee deploy` does, except deploying the functions; a second run changes nothing.

    A record that chalice kept of functions that are gone, as after a stack has ended, is removed.
    """
    prepared = deployment.prepare(stage, target, settings, progress)
    apart = (DeployApp, GrantLogs, KeyApi, Subscribe)  # the functions, and what needs them
    actions = tuple(action for action in prepared.plan.actions if not isinstance(action, apart))
    executor = execute.Executor(target, prepared.functions_dir, prepared.values, progress)
    arns = executor.execute(replace(prepared.plan, actions=actions))
    for app in APPS:
        folder = prepared.functions_dir / app
        layers = {name: arns[name] for name in FUNCTION_LAYERS[app]}
        apps.write_config(folder, stage, prepared.values, layers)
        chalice_run.forget_if_gone(folder, stage, target.client)
