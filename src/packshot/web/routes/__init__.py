"""The routes, one module per stage."""

from fastapi import APIRouter

from packshot.web.routes import (
    batches,
    categories,
    evaluations,
    generations,
    jobs,
    models,
    openai,
    references,
    teams,
    templates,
    trainings,
    webhooks,
)

ROUTERS: tuple[APIRouter, ...] = (
    categories.router,
    categories.catalog,
    references.router,
    trainings.router,
    models.router,
    evaluations.router,
    templates.router,
    generations.router,
    batches.router,
    jobs.router,
    openai.router,
    teams.router,
    webhooks.router,
)
