"""Django in one file, for gunicorn-gthread.ini. A project has its wsgi.py instead."""
import work
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="of an example")


def index(_request):
    return HttpResponse(work.work(), content_type="text/plain")


urlpatterns = [path("", index)]
application = get_wsgi_application()
