import jakarta.servlet.ServletException;
import jakarta.servlet.http.*;
import java.awt.*;
import java.awt.image.BufferedImage;
import java.io.*;
import java.nio.file.*;
import javax.xml.parsers.DocumentBuilderFactory;
import org.w3c.dom.*;

/**
 * What the tests know of a THREDDS Data Server: it reads catalog.xml and threddsConfig.xml in its
 * content root when it starts, writes logs there, redirects to the catalog's page, and serves files.
 */
public class War extends HttpServlet {
  private Document catalog, config;
  private Path root;

  @Override
  public void init() throws ServletException {
    // TDS wants the slash at the end.
    root = Path.of(System.getProperty("tds.content.root.path") + "thredds");
    try {
      catalog = read("catalog.xml");
      config = read("threddsConfig.xml");
      Files.createDirectories(root.resolve("logs"));
      Files.writeString(root.resolve("logs/serverStartup.log"), "started\n");
    } catch (Exception e) {
      throw new ServletException(e);
    }
  }

  private Document read(String name) throws Exception {
    return DocumentBuilderFactory.newInstance().newDocumentBuilder().parse(root.resolve(name).toFile());
  }

  private static Element first(Document d, String tag) {
    return (Element) d.getElementsByTagName(tag).item(0);
  }

  @Override
  protected void doGet(HttpServletRequest q, HttpServletResponse r) throws IOException {
    switch (q.getServletPath()) {
      case "/catalog/catalog.html" -> {
        NodeList all = catalog.getElementsByTagName("dataset");
        for (int i = 0; i < all.getLength(); i++) {
          Element e = (Element) all.item(i);
          r.getWriter().println("dataset " + e.getAttribute("name") + ": " + e.getAttribute("urlPath"));
        }
      }
      case "/fileServer" -> {
        Element at = first(catalog, "datasetRoot");
        String path = q.getPathInfo().substring(1 + at.getAttribute("path").length() + 1);
        Files.copy(Path.of(at.getAttribute("location"), path), r.getOutputStream());
      }
      case "/about" -> {
        r.getWriter().println("heap " + Runtime.getRuntime().maxMemory() / 1048576);
        r.getWriter().println("cache " + first(config, "maxSize").getTextContent());
        r.getWriter().println("log " + Files.readString(root.resolve("logs/serverStartup.log")).strip());
        r.getWriter().println("user " + System.getProperty("user.name"));
      }
      case "/picture" -> {
        BufferedImage image = new BufferedImage(80, 20, BufferedImage.TYPE_INT_RGB);
        Graphics2D g = image.createGraphics();
        g.setFont(new Font("SansSerif", Font.PLAIN, 12));
        g.drawString("hello", 2, 14);
        javax.imageio.ImageIO.write(image, "jpeg", r.getOutputStream());
      }
      default -> r.sendRedirect(q.getContextPath() + "/catalog/catalog.html");
    }
  }
}
