package nslab;

import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;

/**
 * A stand-in for a THREDDS Data Server: its redirects to the catalog page, and a page that tells
 * who answered. Tomcat itself gives the first redirect, /thredds to /thredds/.
 */
public final class Standin extends HttpServlet {
  private static final long serialVersionUID = 1;
  private static final String CATALOG = "/catalog/catalog.html";

  @Override
  protected void doGet(HttpServletRequest request, HttpServletResponse response) throws IOException {
    switch (request.getServletPath()) {
      case "/", "/catalog", "/catalog/", "/catalog.html" ->
          response.sendRedirect(request.getContextPath() + CATALOG);
      case CATALOG -> catalog(request, response);
      default -> response.sendError(HttpServletResponse.SC_NOT_FOUND);
    }
  }

  private static void catalog(HttpServletRequest q, HttpServletResponse r) throws IOException {
    String name = System.getenv("RS_NAME");
    String host = q.getHeader("Host");
    StringBuilder page = new StringBuilder(2048);
    page.append("""
        <!DOCTYPE html>
        <html lang="en">
        <head>
        <meta charset="utf-8">
        <title>Catalog on\s""").append(text(name)).append("""
        </title>
        <style>
        body { font: 1rem/1.5 system-ui, sans-serif; max-width: 44rem; margin: 2rem auto; padding: 0 1rem; }
        th { text-align: left; font-weight: normal; padding-right: 2rem; vertical-align: top; }
        td { font-family: ui-monospace, monospace; }
        </style>
        </head>
        <body>
        <h1>THREDDS catalog (stand-in)</h1>
        <p>This is a stand-in for a THREDDS Data Server: it has the redirects, not the data.</p>
        <table>
        """);
    row(page, "realserver", name);
    row(page, "asked for (Host header)", host == null ? "-" : host);
    row(page, "local address of the socket", endpoint(q.getLocalAddr(), q.getLocalPort()));
    row(page, "client", endpoint(q.getRemoteAddr(), q.getRemotePort()));
    page.append("""
        </table>
        <p>The client asked for the VIP. Where the realserver has the VIP on its loopback interface,
        that is the local address of the socket too; where it takes the packets by NAT REDIRECT, the
        local address is the realserver's own.</p>
        </body>
        </html>
        """);
    byte[] body = page.toString().getBytes(java.nio.charset.StandardCharsets.UTF_8);
    r.setContentType("text/html;charset=UTF-8");
    r.setHeader("Cache-Control", "no-store");
    r.setContentLength(body.length);
    r.getOutputStream().write(body);
  }

  private static void row(StringBuilder page, String what, String value) {
    page.append("<tr><th scope=\"row\">").append(what).append("</th><td>").append(text(value))
        .append("</td></tr>\n");
  }

  private static String endpoint(String address, int port) {
    return (address.indexOf(':') >= 0 ? "[" + address + "]" : address) + ":" + port;
  }

  /** Text for HTML: the Host header is the client's to write. */
  private static String text(String s) {
    return s.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\"", "&quot;");
  }
}
