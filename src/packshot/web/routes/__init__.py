"""The routes, one module per stage."""

from fastapi import APIRouter

from packshot.web.routes import categories, generations, models, openai, references, teams, trainings, webhooks

ROUTERS: tuple[APIRouter, ...] = (
    categories.router,
    references.router,
    trainings.router,
    models.router,
    generations.router,
    openai.router,
    teams.router,
    webhooks.router,
)
